"""Fits the constants of ``forumqa.calibration`` and prints them.

usage: python -m benchmarks.calibrate --model DIR --articles ARTICLES.jsonl --near NEAR.jsonl
                                      [--paragraphs BEIR_DIR]

ARTICLES: written bilingual articles ({"title_ko", "sentences": [{"ko"}], "questions": [{"ko", "en",
"para_ko", "answer"}]}) that the embedding model was NOT trained on: on those that it was, it looks
better than it is. NEAR: questions that are about an article and not answered by it ({"i", "ko",
"en", "ko2", "en2"}). The articles are indexed by tens, one by one and by forties or all together, so
that neither the weights nor the threshold lean on one size of corpus. BEIR_DIR: questions over
paragraphs with "answers", several paragraphs of one subject, for "held". Needs scikit-learn, scipy.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from forumqa import answertype, indexer, retrieval
from forumqa.calibration import FEATURES, TOKEN_COLUMNS, regime, weights
from forumqa.dense import StaticEmbedder
from forumqa.evaluation import read_folder
from forumqa.schema import Document
from forumqa.store import Snapshot

FIRST_STAGE = [i for i in range(len(FEATURES)) if i not in range(*TOKEN_COLUMNS.indices(99))]
BOTH_STAGES = list(range(len(FEATURES)))
# Behind the candidates that matter; the softmax does not feel the rest.
_KEPT = 48
# What a question weighs in "held" that asks about a paragraph, against one about an article; and
# one over all articles together against one over ten.
_PARAGRAPHS, _TOGETHER = 1.5, 2.0
_NEAR, _DELETED = 0.3, 0.2
_LOST = 0.06


@dataclass
class Asked:
    """One question over one corpus: features of its candidates and which of them answer it."""

    regime: str
    table: np.ndarray
    right: np.ndarray
    weight: float = 1.0


@dataclass
class Decided:
    """What the decision to abstain saw of one question."""

    cross: bool
    kind: str
    size: int
    fold: int
    signals: list[float]


def article(i: int, row: dict[str, Any], without: Iterable[int] = ()) -> Document:
    kept = [s["ko"].strip() for j, s in enumerate(row["sentences"]) if j not in set(without)]
    return Document(id=str(i), title=row["title_ko"].strip(), text=" ".join(kept))


def questions(row: dict[str, Any]) -> Iterable[tuple[str, str, list[int]]]:
    for question in row["questions"]:
        yield from wordings(question)


def wordings(question: dict[str, Any]) -> Iterable[tuple[str, str, list[int]]]:
    plain = question["para_ko"]
    yield "ko", question["ko"], question["answer"]
    yield "para", plain[0] if isinstance(plain, list) else plain, question["answer"]
    yield "en", question["en"], question["answer"]


# --- answer types --------------------------------------------------------------------------------


def evidence(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return the log-likelihood ratios of a kind being shown and lacking, where it is asked for."""
    size = len(answertype.KINDS)
    answers, others = np.ones((size, 2)), np.ones((size, 2))
    for row in rows:
        shown = [answertype.shown(sentence["ko"]) for sentence in row["sentences"]]
        for _, text, right in questions(row):
            for i in range(size):
                if answertype.asked(text) >> i & 1:
                    for j, mask in enumerate(shown):
                        table = answers if j in right else others
                        table[i, mask >> i & 1] += 1 / (len(right) if j in right else len(shown))
    ratio = np.log(answers / answers.sum(1, keepdims=True))
    ratio -= np.log(others / others.sum(1, keepdims=True))
    return {
        kind: (float(r[1]), float(r[0])) for kind, r in zip(answertype.KINDS, ratio, strict=True)
    }


# --- ranking -------------------------------------------------------------------------------------


def tabulate(snapshot: Snapshot, embedder: StaticEmbedder, text: str,
             is_right: Callable[[np.ndarray], np.ndarray], weight: float) -> Asked | None:  # fmt: skip
    query = retrieval.read(snapshot, embedder, text)
    rows, table = retrieval.features(snapshot, query)
    name = regime(query.cross, query.known)
    right = is_right(rows)
    best = np.argsort(-(table @ weights(name, tokens=False)))[:_KEPT]
    kept = np.union1d(best, np.flatnonzero(right)[:5])
    rows, table, right = rows[kept], table[kept], right[kept]
    table[:, TOKEN_COLUMNS] = retrieval.token_match(snapshot, embedder, query.tokens, rows)
    return Asked(name, table, right, weight) if right.any() else None


def fit(asked: Sequence[Asked], columns: Sequence[int], ridge: float = 1e-3) -> np.ndarray:
    """Listwise softmax: the weights (not negative) under which the right sentences win."""
    tables = [a.table[:, columns] for a in asked]
    starts = np.cumsum([0, *map(len, tables)])[:-1]
    table = np.concatenate(tables) * 10
    right = np.concatenate([a.right for a in asked]).astype(float)
    group = np.repeat(np.arange(len(asked)), [len(t) for t in tables])
    share = np.array([a.weight for a in asked])
    share /= share.sum()

    def loss(vector: np.ndarray) -> tuple[float, np.ndarray]:
        scores = table @ vector
        mass = np.exp(scores - np.maximum.reduceat(scores, starts)[group])
        total = np.add.reduceat(mass, starts)
        good = np.add.reduceat(mass * right, starts) + 1e-12
        slope = table.T @ ((mass / total[group] - mass * right / good[group]) * share[group])
        value = float(share @ np.log(total / good)) + ridge * float(vector @ vector)
        return value, slope + 2 * ridge * vector

    bounds = [(0, None)] * len(columns)
    start = np.full(len(columns), 0.1)
    return minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x


def asked_over_articles(rows: Sequence[dict[str, Any]], embedder: StaticEmbedder) -> list[Asked]:
    out: list[Asked] = []
    every = list(range(len(rows)))
    for group in [*(every[i : i + 10] for i in every[::10]), every]:
        snapshot, _ = indexer.assemble([article(i, rows[i]) for i in group], embedder)
        units = [re.sub(r"\s+", " ", unit) for unit in snapshot.unit_texts()]
        weight = _TOGETHER if len(group) == len(rows) else 1.0
        for i in group:
            for _, text, right in questions(rows[i]):
                answers = {rows[i]["sentences"][j]["ko"].strip() for j in right}
                is_right = lambda at, a=answers, u=units: np.array([u[k] in a for k in at])  # noqa: E731
                one = tabulate(snapshot, embedder, text, is_right, weight)
                out += [one] if one else []
    return out


def asked_over_paragraphs(path: Path, embedder: StaticEmbedder) -> list[Asked]:
    out: list[Asked] = []
    folder = read_folder(path)
    snapshot, _ = indexer.assemble(folder.documents, embedder)
    units = [re.sub(r"\s", "", unit) for unit in snapshot.unit_texts()]
    owner = snapshot.passage_document[snapshot.sentence_passage]
    for query in folder.queries:
        wanted = folder.relevant[query["_id"]]
        answer = re.sub(r"\s", "", query["answers"][0])

        def is_right(rows: np.ndarray, wanted: Any = wanted, answer: str = answer) -> np.ndarray:
            own = np.array([folder.documents[owner[row]].id in wanted for row in rows])
            exact = own & np.array([answer in units[row] for row in rows])
            return exact if exact.any() else own

        one = tabulate(snapshot, embedder, query["text"], is_right, 1.0)
        out += [one] if one else []
    return out


def print_weights(asked: Sequence[Asked], paragraphs: Sequence[Asked]) -> None:
    for name in ("held", "known", "new", "cross"):
        own = [a for a in asked if a.regime == name]
        more = [a for a in paragraphs if a.regime == name]
        for one in more:
            one.weight = _PARAGRAPHS * len(own) / len(more)
        for tokens, columns in ((False, FIRST_STAGE), (True, BOTH_STAGES)):
            full = np.zeros(len(FEATURES))
            full[columns] = fit([*own, *more], columns)
            print(f'    ("{name}", {tokens}): ({", ".join(f"{w:.2f}" for w in full)}),')


# --- abstaining ----------------------------------------------------------------------------------


def decisions(rows: Sequence[dict[str, Any]], near: dict[int, dict[str, str]],
              embedder: StaticEmbedder) -> list[Decided]:  # fmt: skip
    """Ask over one, ten and forty articles what they answer, what others answer, near misses, and
    what they would answer if the answering sentences were not deleted."""
    rng = random.Random(0)
    out: list[Decided] = []
    every = list(range(len(rows)))

    def run(documents: list[Document], todo: Iterable[tuple[str, str, int]], size: int) -> None:
        snapshot, _ = indexer.assemble(documents, embedder)
        for kind, text, i in todo:
            signals = retrieval.rank(snapshot, embedder, text).signals
            out.append(Decided(signals.cross, kind, size, i // 10 % 5, signals.vector()))

    for size in (10, 1, 40):
        for group in (every[i : i + size] for i in every[:: 2 if size == 1 else size]):
            todo: list[tuple[str, str, int]] = []
            for i in group:
                own = [(kind, text, i) for kind, text, _ in questions(rows[i])]
                todo += rng.sample(own, 4) if size == 40 else own
                if i in near:
                    todo += [("near", near[i][key], i) for key in ("ko", "en", "ko2", "en2")]
            others = [i for i in every if i not in group]
            for i in rng.sample(others, min(2 * size, 40) if size > 1 else 4):
                some = rng.sample(list(questions(rows[i])), 3)
                todo += [(f"absent-{kind}", text, i) for kind, text, _ in some]
            run([article(i, rows[i]) for i in group], todo, size)
            if size < 40:
                gone = {i: rng.choice(rows[i]["questions"]) for i in group}
                todo = [(f"deleted-{k}", t, i) for i in group for k, t, _ in wordings(gone[i])]
                run([article(i, rows[i], gone[i]["answer"]) for i in group], todo, size)
    return out


def print_confidence(seen: Sequence[Decided]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for cross in (False, True):
        own = [s for s in seen if s.cross == cross]
        x, kinds = np.array([s.signals for s in own]), np.array([s.kind for s in own])
        size, fold = np.array([s.size for s in own]), np.array([s.fold for s in own])
        if cross:  # the number of words says nothing across languages
            x[:, -1] = 0
        y = np.isin(kinds, ["ko", "para", "en"])
        weight = np.where(kinds == "near", _NEAR, 1.0)
        weight[np.char.startswith(kinds, "deleted")] = _DELETED
        for one, share in ((1, 0.7), (10, 1.0), (40, 0.7)):
            here = size == one
            weight[here & ~y] *= weight[here & y].sum() / weight[here & ~y].sum()
            weight[here] *= share / weight[here].sum()
        weight *= len(y) / weight.sum()
        make = lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000))  # noqa: E731
        held = np.zeros(len(y))
        for k in range(5):
            train = fold != k
            model = make().fit(x[train], y[train], logisticregression__sample_weight=weight[train])
            held[~train] = model.predict_proba(x[~train])[:, 1]
        sizes = [np.sort(held[y & (size == one)]) for one in (1, 10, 40)]
        limit = float(np.mean([np.quantile(values, _LOST) for values in sizes]))
        print(f"cross={cross}: below {limit:.2f} lie")
        for one in (1, 10, 40):
            shares = {
                str(k): round(float((held[(kinds == k) & (size == one)] < limit).mean()), 2)
                for k in np.unique(kinds[size == one])
            }
            print(f"  of {one} articles: {shares}")
        model = make().fit(x, y, logisticregression__sample_weight=weight)
        factors = model[1].coef_[0] / model[0].scale_
        bias = float(model[1].intercept_[0] - factors @ model[0].mean_)
        print(f"    {cross}: ({bias:.3f}, ({', '.join(f'{f:.2f}' for f in factors)})),")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--articles", type=Path, required=True)
    parser.add_argument("--near", type=Path, required=True)
    parser.add_argument("--paragraphs", type=Path)
    options = parser.parse_args()
    embedder = StaticEmbedder(options.model)
    rows = [json.loads(line) for line in options.articles.read_text("utf-8").splitlines()]
    near = [json.loads(line) for line in options.near.read_text("utf-8").splitlines()]
    for kind, (shown, lacking) in evidence(rows).items():
        print(f'    "{kind}": ({shown:.2f}, {lacking:.2f}),')
    paragraphs = asked_over_paragraphs(options.paragraphs, embedder) if options.paragraphs else []
    print_weights(asked_over_articles(rows, embedder), paragraphs)
    # The decision is fitted under the weights that stand in forumqa.calibration now.
    near_of = dict(enumerate(sorted(near, key=lambda row: row["i"])))
    print_confidence(decisions(rows, near_of, embedder))


if __name__ == "__main__":
    main()
