"""Measures a model: on the held-out dev data, or with --measure on test folders.

usage: python -m training.evaluate MODEL --work WORK
       python -m training.evaluate MODEL --measure DIR

MODEL is an exported folder. Prints JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr  # type: ignore[import-untyped]

from training.groups import read_rows
from training.sources import GRADES, Pair, graded
from training.vectors import Floats, embed

Embed = Callable[[Sequence[str]], Floats]
Scores = dict[str, float]


def matching(
    run: Embed, korean: Sequence[str], english: Sequence[str], others: Sequence[Pair] = ()
) -> Scores:
    """How often the translation is the nearest of all, both ways; `others` only stand by."""
    left, right = run(korean), run(english)
    own = np.arange(len(korean))
    all_right = np.vstack([right, run([en for _, en in others])]) if others else right
    all_left = np.vstack([left, run([ko for ko, _ in others])]) if others else left
    return {
        "ko_en": float(((left @ all_right.T).argmax(1) == own).mean()),
        "en_ko": float(((right @ all_left.T).argmax(1) == own).mean()),
    }


def folder_hits(
    run: Embed, articles: Sequence[Sequence[str]], asked: Sequence[tuple[str, str, set[str]]]
) -> dict[str, list[tuple[bool, bool, bool]]]:
    """For each kind of question: right article; right best sentence; answer among its best two.

    The article is the one that holds the best sentence.
    """
    flat = [sentence for article in articles for sentence in article]
    owner = np.repeat(np.arange(len(articles)), [len(article) for article in articles])
    scores = run([text for _, text, _ in asked]) @ run(flat).T
    hits: dict[str, list[tuple[bool, bool, bool]]] = defaultdict(list)
    for row, (kind, _, answers) in zip(scores, asked, strict=True):
        best = int(row.argmax())
        inside = np.flatnonzero(owner == owner[best])
        two = inside[np.argsort(-row[inside])[:2]]
        right = any(flat[index] in answers for index in inside)
        hits[kind].append((right, flat[best] in answers, any(flat[i] in answers for i in two)))
    return hits


def summary(hits: dict[str, list[tuple[bool, bool, bool]]]) -> Scores:
    """Shares by kind."""
    found: Scores = {}
    for kind, rows in hits.items():
        article, best, two = np.mean(np.array(rows, float), axis=0)
        found |= {f"{kind}_article": article, f"{kind}_best": best, f"{kind}_two": two}
    return found


HELD_OUT = Path(__file__).parent / "news" / "similar-held-out.jsonl"


def similarity(run: Embed, rows: Sequence[dict[str, Any]]) -> Scores:
    """Spearman correlation with the grades of pairs of Korean sentences: all, and without "close".

    "close" shares most words and differs in the point, "not" shares words alone: a mean of words
    is led astray by both, so this is harder than a usual test.
    """
    left, right, gold = map(list, zip(*graded(rows), strict=True))
    scores = (run(left) * run(right)).sum(1)
    plain = np.array(gold) != GRADES["close"]
    return {
        "sts": float(spearmanr(scores, gold).statistic),
        "sts_without_close": float(spearmanr(scores[plain], np.array(gold)[plain]).statistic),
    }


def on_dev(run: Embed, work: Path) -> Scores:
    """All dev numbers."""
    news = read_rows(work / "dev-news.jsonl")
    hits: dict[str, list[tuple[bool, bool, bool]]] = defaultdict(list)
    for begin in range(0, len(news) - 9, 10):
        folder = news[begin : begin + 10]
        asked = []
        for article in folder:
            for question in article["questions"]:
                answers = {article["sentences"][i]["ko"] for i in question["answer"]}
                para = question["para_ko"]
                for kind, text in (
                    ("ko", question["ko"]),
                    ("para", para if isinstance(para, str) else para[0]),
                    ("en", question["en"]),
                ):
                    asked.append((kind, text, answers))
        sentences = [[pair["ko"] for pair in article["sentences"]] for article in folder]
        for kind, rows in folder_hits(run, sentences, asked).items():
            hits[kind] += rows
    found = summary(hits)
    pairs = [(ko, en) for ko, en in read_rows(work / "dev-pairs.jsonl")]
    found |= matching(run, *zip(*pairs, strict=True), others=bystanders(work, pairs))
    found["boolq_ndcg10"] = passages(run, read_rows(work / "dev-boolq.jsonl"))
    found["clusters"] = clusters(run, read_rows(work / "dev-clusters.jsonl"))
    return found | similarity(run, read_rows(HELD_OUT))


def bystanders(work: Path, pairs: Sequence[Pair]) -> list[Pair]:
    """Training sentences among which the held-out ones must be found: 264 alone are too easy."""
    taken = {text for pair in pairs for text in pair}
    rows = [(ko, en) for ko, en in read_rows(work / "groups" / "general.jsonl")]
    fit = [(ko, en) for ko, en in rows if len(en) > 40 and ko not in taken and en not in taken]
    return list({en: (ko, en) for ko, en in fit}.values())


def ndcg(rank: NDArray[Any]) -> float:
    """nDCG@10 where one answer is right, from the number of better ones."""
    return float(np.where(rank < 10, 1 / np.log2(rank + 2), 0).mean())


def passages(run: Embed, rows: Sequence[Sequence[str]]) -> float:
    """nDCG@10 of Korean questions over the held-out encyclopaedia passages."""
    texts = list(dict.fromkeys(passage for _, passage in rows))
    place = {text: number for number, text in enumerate(texts)}
    scores = run([asked for asked, _ in rows]) @ run(texts).T
    right = scores[np.arange(len(rows)), [place[passage] for _, passage in rows]]
    return ndcg((scores > right[:, None]).sum(1))


def clusters(run: Embed, rows: Sequence[Sequence[str]]) -> float:
    """Share of the nine nearest of each text that are of its own cluster of paraphrases."""
    texts = [text for row in rows for text in row]
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    vectors = run(texts)
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -2)
    near = np.argsort(-scores, axis=1)[:, :9]
    return float((owner[near] == owner[:, None]).mean())


@cache
def splitter() -> Any:
    """Kiwi, loaded once."""
    from kiwipiepy import Kiwi

    return Kiwi()


def sentence_list(text: str) -> list[str]:
    """Sentences of a corpus text."""
    return [found.text for found in splitter().split_into_sents(text)]


def on_measure(run: Embed, measure: Path) -> Scores:
    """Numbers of the model card; never used to choose anything."""
    found: Scores = {}
    rows = read_rows(measure / "news-ko-en.jsonl")
    found |= matching(run, [row["ko"] for row in rows], [row["en"] for row in rows])
    with (measure / "korsts-test.tsv").open(encoding="utf-8") as lines:
        sts = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    gold = [float(row["score"]) for row in sts]
    scores = (run([r["sentence1"] for r in sts]) * run([r["sentence2"] for r in sts])).sum(1)
    found["korsts"] = float(spearmanr(gold, scores).statistic)
    klue = json.loads((measure / "klue-sts-dev.json").read_text(encoding="utf-8"))
    gold = [row["labels"]["real-label"] for row in klue]
    scores = (run([r["sentence1"] for r in klue]) * run([r["sentence2"] for r in klue])).sum(1)
    found["klue"] = float(spearmanr(gold, scores).statistic)
    hits: dict[str, list[tuple[bool, bool, bool]]] = defaultdict(list)
    for folder in sorted((measure / "news").iterdir()):
        asked = [
            (row["kind"], row["text"], set(row["answers"]))
            for row in read_rows(folder / "queries.jsonl")
            if row["answerable"]
        ]
        answers = {answer for _, _, found_in in asked for answer in found_in}
        corpus = [split_by(row["text"], answers) for row in read_rows(folder / "corpus.jsonl")]
        for kind, part in folder_hits(run, corpus, asked).items():
            hits[kind] += part
    found |= summary(hits)
    found["korquad_ndcg10"] = paragraphs(run, measure / "korquad")
    return found


def split_by(text: str, answers: set[str]) -> list[str]:
    """Sentences of a text; answers stay whole, wherever a splitter would cut them."""
    parts: list[str] = []
    rest = text
    for answer in sorted((a for a in answers if a in text), key=text.index):
        before, _, rest_after = rest.partition(answer)
        if not rest_after and not rest.endswith(answer):
            continue
        parts += [*(sentence_list(before.strip()) if before.strip() else []), answer]
        rest = rest_after
    return parts + (sentence_list(rest.strip()) if rest.strip() else [])


def paragraphs(run: Embed, folder: Path) -> float:
    """nDCG@10 of whole paragraphs, one right paragraph a question."""
    corpus: list[dict[str, Any]] = read_rows(folder / "corpus.jsonl")
    queries = {row["_id"]: row["text"] for row in read_rows(folder / "queries.jsonl")}
    place = {row["_id"]: number for number, row in enumerate(corpus)}
    with next((folder / "qrels").glob("*.tsv")).open(encoding="utf-8") as lines:
        wanted = [
            (row["query-id"], place[row["corpus-id"]])
            for row in csv.DictReader(lines, delimiter="\t")
        ]
    texts = [f"{row.get('title', '')} {row['text']}".strip() for row in corpus]
    scores = run([queries[query] for query, _ in wanted]) @ run(texts).T
    right = scores[np.arange(len(wanted)), [number for _, number in wanted]]
    return ndcg((scores > right[:, None]).sum(1))


def main() -> None:
    """Command line."""
    from training.export import quantised, read_model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--work", type=Path, help="dev data of training.prepare")
    parser.add_argument("--measure", type=Path, help="test folders")
    parser.add_argument("--int8", action="store_true", help="the matrix rounded to int8 first")
    parser.add_argument("--dimensions", type=int, help="the first so many of the vectors alone")
    options = parser.parse_args()
    tokenizer, matrix = read_model(options.model)
    matrix = matrix[:, : options.dimensions]
    if options.int8:
        rows, scale = quantised(matrix)
        matrix = rows.astype(np.float32) * scale.astype(np.float32)[:, None]
    run: Embed = lambda texts: embed(matrix, tokenizer, texts)  # noqa: E731
    found: Scores = {}
    if options.work:
        found |= on_dev(run, options.work)
    if options.measure:
        found |= on_measure(run, options.measure)
    print(json.dumps({name: round(value, 4) for name, value in found.items()}, indent=1))


if __name__ == "__main__":
    main()
