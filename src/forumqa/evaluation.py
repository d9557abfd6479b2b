"""``forumqa eval``: figures over BEIR folders (corpus.jsonl, queries.jsonl, qrels/test.tsv)."""

from __future__ import annotations

import json
import math
import re
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forumqa import answering, indexer, retrieval
from forumqa.schema import Document, Embedder, ForumQAError
from forumqa.text import normalize

DEPTH = 10
# Passages looked at to fill ten documents, each of which may have several.
_PASSAGES = 100


@dataclass(slots=True)
class _Result:
    kind: str
    milliseconds: float
    gains: list[int] | None = None
    relevant: int = 0
    answered: bool | None = None
    characters: int = 0
    answerable: bool | None = None
    abstained: bool = False


@dataclass(slots=True)
class _Folder:
    documents: list[Document]
    queries: list[dict[str, Any]]
    relevant: dict[str, set[str]] = field(default_factory=dict)


def read_folder(path: Path) -> _Folder:
    """Read a BEIR folder. Raises ForumQAError where it is not one."""
    try:
        corpus = [json.loads(line) for line in _lines(path / "corpus.jsonl")]
        queries = [json.loads(line) for line in _lines(path / "queries.jsonl")]
        qrels = list(_lines(path / "qrels" / "test.tsv"))
        documents = [
            Document(
                id=str(row["_id"]),
                title=normalize(row.get("title", "")),
                text=normalize(row["text"]),
            )
            for row in corpus
        ]
    except (OSError, KeyError, ValueError) as error:
        raise ForumQAError(
            f"{path} is not a BEIR folder with corpus.jsonl, queries.jsonl and qrels/test.tsv "
            f"({error})."
        ) from error
    folder = _Folder(documents, queries)
    for line in qrels[1:]:
        query, document, score = line.split("\t")
        if int(score) > 0:
            folder.relevant.setdefault(query, set()).add(document)
    return folder


def _lines(path: Path) -> Iterable[str]:
    return (line for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def evaluate(paths: Sequence[Path], embedder: Embedder, side: str = "both", *,
             abstain: bool = True) -> dict[str, Any]:  # fmt: skip
    """Return the figures over all queries of the folders, each indexed by itself.

    ``side`` is "both", "lexical" or "dense": the other one is then left out of the ranking, and there is
    no abstaining, which is fitted to both; nor is there without ``abstain``.
    """
    abstain = abstain and side == "both"
    results: list[_Result] = []
    documents = 0
    seconds = 0.0
    for path in paths:
        folder = read_folder(path)
        documents += len(folder.documents)
        began = time.perf_counter()
        snapshot, _ = indexer.assemble(folder.documents, embedder)
        seconds += time.perf_counter() - began
        for query in folder.queries:
            began = time.perf_counter()
            ranking = retrieval.rank(snapshot, embedder, query["text"], side=side)
            hits = retrieval.hits(snapshot, ranking, _PASSAGES)
            answer = list(answering.answer(snapshot, ranking, hits[:5], abstain=abstain))[-1]
            milliseconds = (time.perf_counter() - began) * 1000
            result = _Result(str(query.get("kind", "")), milliseconds)
            relevant = folder.relevant.get(str(query["_id"]))
            if relevant:
                found = list(dict.fromkeys(hit.passage.document_id for hit in hits))
                result.gains = [int(document in relevant) for document in found[:DEPTH]]
                result.relevant = len(relevant)
            result.abstained = answer.kind == "abstained"
            if "answerable" in query:
                result.answerable = bool(query["answerable"])
            if query.get("answers"):
                squeezed = _squeeze(answer.text)
                result.answered = any(_squeeze(a) in squeezed for a in query["answers"])
                result.characters = sum(len(c.quote) for c in answer.citations)
            results.append(result)
    figures: dict[str, Any] = {
        "queries": len(results),
        "documents": documents,
        "index_seconds": round(seconds, 3),
    }
    figures |= _figures(results)
    kinds = sorted({result.kind for result in results if result.kind})
    if kinds:
        figures["by_kind"] = {
            kind: {"queries": len(own), **_figures(own)}
            for kind in kinds
            if (own := [result for result in results if result.kind == kind])
        }
    return figures


def _squeeze(text: str) -> str:
    return re.sub(r"\s+", "", normalize(text))


def _figures(results: Sequence[_Result]) -> dict[str, float]:
    figures: dict[str, float] = {}
    judged = [result for result in results if result.gains is not None]
    if judged:
        figures["ndcg@10"] = _mean(_ndcg(r.gains or [], r.relevant) for r in judged)
        figures["recall@1"] = _mean(sum((r.gains or [])[:1]) / r.relevant for r in judged)
        figures["recall@10"] = _mean(sum(r.gains or []) / r.relevant for r in judged)
        figures["mrr@10"] = _mean(_reciprocal(r.gains or []) for r in judged)
    asked = [result for result in results if result.answered is not None]
    if asked:
        figures["answer_hit"] = _mean(bool(r.answered) for r in asked)
        given = [r.characters for r in asked if not r.abstained]
        figures["answer_chars"] = round(statistics.fmean(given), 1) if given else 0.0
    absent = [r for r in results if r.answerable is False]
    present = [r for r in results if r.answerable is not False]
    if absent:
        figures["abstained_right"] = _mean(r.abstained for r in absent)
    if present:
        figures["abstained_wrong"] = _mean(r.abstained for r in present)
    times = sorted(r.milliseconds for r in results)
    if times:
        figures["query_ms_p50"] = round(times[len(times) // 2], 2)
        figures["query_ms_p95"] = round(times[min(len(times) - 1, int(len(times) * 0.95))], 2)
    return figures


def _mean(values: Iterable[float]) -> float:
    return round(statistics.fmean(map(float, values)), 4)


def _ndcg(gains: Sequence[int], relevant: int) -> float:
    """nDCG@10 with binary gains, as in trec_eval."""
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(relevant, DEPTH)))
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains)) / ideal


def _reciprocal(gains: Sequence[int]) -> float:
    return next((1 / (rank + 1) for rank, gain in enumerate(gains) if gain), 0.0)


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures as lines to read."""
    kinds: Mapping[str, Mapping[str, Any]] = figures.get("by_kind", {})
    lines = [f"{name:16} {value}" for name, value in figures.items() if name != "by_kind"]
    for kind, own in kinds.items():
        lines.append("")
        lines.append(f"{kind}:")
        lines += [f"  {name:16} {value}" for name, value in own.items()]
    return "\n".join(lines)
