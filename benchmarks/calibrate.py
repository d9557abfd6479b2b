"""Fits the constants of ``forumqa.calibration`` and prints them.

usage: python -m benchmarks.calibrate --model DIR --articles ARTICLES.jsonl --near NEAR.jsonl
                                      [--lexical BEIR_DIR]

ARTICLES: written bilingual articles ({"title_ko", "sentences": [{"ko"}], "questions": [{"ko", "en",
"para_ko", "answer"}]}) that the embedding model was NOT trained on: on those that it was, it looks
better than it is. NEAR: questions that are about an article and not answered by it ({"i", "ko",
"en", "ko2", "en2"}). The articles are indexed by tens, all together and one by one, so that neither
the weights nor the threshold lean on one size of corpus. BEIR_DIR: questions over encyclopaedia
paragraphs, for the weights inside the lexical side alone. Needs scikit-learn and scipy.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from forumqa import indexer, retrieval
from forumqa.calibration import FEATURES, TOKEN_COLUMNS, regime
from forumqa.dense import StaticEmbedder
from forumqa.evaluation import read_folder
from forumqa.schema import Document

LEXICAL = [i for i, name in enumerate(FEATURES) if name.startswith(("words", "pairs"))]
OTHERS = [i for i in range(len(FEATURES)) if i not in LEXICAL]
FIRST = [i for i in OTHERS if not TOKEN_COLUMNS.start <= i < TOKEN_COLUMNS.stop]


@dataclass
class Asked:
    """One question over one corpus: features of its candidates and which of them answer it."""

    kind: str
    regime: str
    table: np.ndarray
    right: np.ndarray


def article(i: int, row: dict[str, Any]) -> Document:
    text = " ".join(sentence["ko"].strip() for sentence in row["sentences"])
    return Document(id=str(i), title=row["title_ko"].strip(), text=text)


def questions(i: int, row: dict[str, Any]) -> Iterable[tuple[str, str, set[str]]]:
    for question in row["questions"]:
        answers = {row["sentences"][j]["ko"].strip() for j in question["answer"]}
        other = question["para_ko"]
        yield "ko", question["ko"], answers
        yield "para", other[0] if isinstance(other, list) else other, answers
        yield "en", question["en"], answers


def tabulate(snapshot: Any, embedder: Any, kind: str, text: str, answers: set[str]) -> Asked | None:
    query = retrieval.read(snapshot, embedder, text)
    rows, table = retrieval.features(snapshot, query)
    table[:, TOKEN_COLUMNS] = retrieval.token_match(snapshot, embedder, query.tokens, rows)
    units = snapshot.unit_texts()
    right = np.array([re.sub(r"\s+", " ", units[row]) in answers for row in rows])
    name = regime(query.cross, query.known).replace("held", "known")
    return Asked(kind, name, table, right) if right.any() else None


def fit(asked: list[Asked], columns: list[np.ndarray], ridge: float = 1e-3) -> np.ndarray:
    """Listwise softmax: the weights under which the right sentences of each question win."""
    size = len(columns[0][0])
    starts = np.cumsum([0, *(len(c) for c in columns)])[:-1]
    table = np.concatenate(columns) * 10
    right = np.concatenate([a.right for a in asked])
    group = np.repeat(np.arange(len(asked)), [len(c) for c in columns])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = table @ weights
        scores = scores - np.maximum.reduceat(scores, starts)[group]
        mass = np.exp(scores)
        total = np.add.reduceat(mass, starts)
        good = np.add.reduceat(mass * right, starts) + 1e-12
        every, won = mass / total[group], mass * right / good[group]
        slope = table.T @ (every - won) / len(asked) + 2 * ridge * weights
        return float(np.mean(np.log(total / good)) + ridge * weights @ weights), slope

    bounds = [(0, None)] * size
    return minimize(loss, np.full(size, 0.1), jac=True, bounds=bounds, method="L-BFGS-B").x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--articles", type=Path, required=True)
    parser.add_argument("--near", type=Path, required=True)
    parser.add_argument("--lexical", type=Path)
    options = parser.parse_args()
    embedder = StaticEmbedder(options.model)
    rows = [json.loads(line) for line in options.articles.read_text("utf-8").splitlines()]
    near = [json.loads(line) for line in options.near.read_text("utf-8").splitlines()]
    near_of = dict(enumerate(sorted(near, key=lambda row: row["i"])))
    documents = [article(i, row) for i, row in enumerate(rows)]
    tens = [list(range(i, min(i + 10, len(rows)))) for i in range(0, len(rows), 10)]

    asked: list[Asked] = []
    for group in [*tens, list(range(len(rows)))]:
        snapshot, _ = indexer.assemble([documents[i] for i in group], embedder)
        for i in group:
            for kind, text, answers in questions(i, rows[i]):
                one = tabulate(snapshot, embedder, kind, text, answers)
                asked += [one] if one else []
    lexical = [a for a in asked if a.kind == "ko"]
    if options.lexical:
        folder = read_folder(options.lexical)
        snapshot, _ = indexer.assemble(folder.documents, embedder)
        owner = snapshot.passage_document[snapshot.sentence_passage]
        for query in folder.queries:
            wanted = folder.relevant[query["_id"]]
            read = retrieval.read(snapshot, embedder, query["text"])
            at, table = retrieval.features(snapshot, read)
            right = np.array([folder.documents[owner[row]].id in wanted for row in at])
            if right.any():
                lexical.append(Asked("lexical", "same", table, right))
    inside = fit(lexical, [a.table[:, LEXICAL] for a in lexical])
    print(
        "inside the lexical side:",
        dict(zip([FEATURES[i] for i in LEXICAL], inside.round(2), strict=True)),
    )
    for name in sorted({a.regime for a in asked}):
        own = [a for a in asked if a.regime == name]
        for stage, chosen in (("False", FIRST), ("True", OTHERS)):
            sides = [
                np.column_stack([a.table[:, LEXICAL] @ inside, a.table[:, chosen]]) for a in own
            ]
            weights = fit(own, sides)
            full = np.zeros(len(FEATURES))
            full[LEXICAL], full[chosen] = inside * weights[0], weights[1:]
            print(f'    ("{name}", {stage}): ({", ".join(f"{w:.2f}" for w in full)}),')

    # When to abstain, under the weights that stand in forumqa.calibration now.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = random.Random(0)
    seen: list[tuple[bool, str, list[float], int]] = []
    for size, groups in ((10, tens), (1, [[i] for i in range(len(rows))])):
        for n, group in enumerate(groups):
            snapshot, _ = indexer.assemble([documents[i] for i in group], embedder)
            todo = [(k, t) for i in group for k, t, _ in questions(i, rows[i])]
            todo += [
                ("near", near_of[i][key])
                for i in group
                if i in near_of
                for key in ("ko", "en", "ko2", "en2")
            ]
            others = rng.sample(
                [i for i in range(len(rows)) if i not in group], 2 * size if size > 1 else 4
            )
            todo += [
                (f"absent-{k}", t) for i in others
                for k, t, _ in rng.sample(list(questions(i, rows[i])), 3)
            ]  # fmt: skip
            for kind, text in todo:
                signals = retrieval.rank(snapshot, embedder, text).signals
                seen.append((signals.cross, f"{kind}/{size}", signals.vector(), n % 4))
    for cross in (False, True):
        own = [s for s in seen if s[0] == cross]
        x, kinds = np.array([s[2] for s in own]), np.array([s[1] for s in own])
        fold = np.array([s[3] for s in own])
        y = np.array([not k.startswith(("near", "absent")) for k in kinds])
        weight = np.where(
            y, (~y).sum() / y.sum(), np.where([k.startswith("near") for k in kinds], 0.3, 1.0)
        )
        make = lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000))  # noqa: E731
        held = np.zeros(len(y))
        for k in range(4):
            model = make().fit(
                x[fold != k], y[fold != k], logisticregression__sample_weight=weight[fold != k]
            )
            held[fold == k] = model.predict_proba(x[fold == k])[:, 1]
        for share in (0.04, 0.05, 0.06):
            limit = np.quantile(held[y], share)
            print(
                cross,
                share,
                round(float(limit), 3),
                {k: round(float((held[kinds == k] < limit).mean()), 3) for k in sorted(set(kinds))},
            )
        model = make().fit(x, y, logisticregression__sample_weight=weight)
        scale, logistic = model[0], model[1]
        factors = logistic.coef_[0] / scale.scale_
        bias = logistic.intercept_[0] - float(factors @ scale.mean_)
        print(f"    {cross}: ({bias:.3f}, ({', '.join(f'{f:.2f}' for f in factors)})),")


if __name__ == "__main__":
    main()
