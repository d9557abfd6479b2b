"""Ranking to answer: which sentences to quote, or whether to say that the material is silent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from forumqa import calibration
from forumqa.retrieval import Ranking
from forumqa.schema import Answer, Citation, Generator, GeneratorFailed, Hit
from forumqa.store import Snapshot

# Characters. One or two sentences, however long they are written, and what the first leans on; a
# list may take more.
LONGEST = 400
LONGEST_LIST = 800
_SENTENCES, _LIST_SENTENCES = 2, 5
# How far behind the best sentence another one may be and still be quoted.
_MARGIN = 2.0

_LIST = re.compile(
    r"(?:두|세|네|다섯|여섯|[2-9]) ?가지|무엇무엇|무엇들|어떤 것들|목록|나열|각각|모두 (?:무엇|어디|누구)"
    r"|\b(?:two|three|four|five|six|all|list|several)\b.*\b(?:things|points|ways|steps|reasons|tasks"
    r"|examples|areas|fields|conditions)\b|\blist\b",
    re.I,
)
# A sentence that begins like this leans on the one before it.
_LEANS = re.compile(
    r"(?:그는|그녀는|그가|이를|이에|이는|이 ?같은|이러한|이와|이로|그러면서|특히|이어|또한?\s|아울러|다만|하지만|그러나"
    r"|반면|따라서|여기에|이 (?:사업|행사|자리|제도|대표|과정)|He\b|She\b|They\b|It\b|This\b|These\b|In particular"
    r"|However|Also\b|But\b)"
)

_ABSTAINED = {
    "ko": "자료에는 이 질문에 대한 답이 나와 있지 않습니다.",
    "en": "The material does not say.",
}


@dataclass(frozen=True, slots=True)
class _Span:
    """A quoted run of a passage, with the best score among its sentences."""

    passage: int
    start: int
    end: int
    score: float


def answer(snapshot: Snapshot, ranking: Ranking, hits: Sequence[Hit],
           generator: Generator | None = None) -> Iterator[Answer]:  # fmt: skip
    """Yield the growing answer; the last one is complete."""
    question, language = ranking.query.text, ranking.query.language
    confidence = calibration.confidence(ranking.signals)
    if confidence < calibration.threshold(ranking.signals):
        yield Answer(question, _ABSTAINED[language], "abstained", confidence, (), tuple(hits))
        return
    spans = _choose(snapshot, ranking)
    citations = tuple(_cite(snapshot, number, span) for number, span in enumerate(spans, 1))
    if generator is not None:
        try:
            yield from _generate(ranking, citations, hits, confidence, generator)
            return
        except GeneratorFailed as error:
            # The quotes are as good without the model; the reader is told what happened.
            note = f"\n\n({error})"
    else:
        note = ""
    text = ""
    for i, citation in enumerate(citations, 1):
        text += ("\n\n" if text else "") + f"{citation.quote} [{citation.number}]"
        done = note if i == len(citations) else ""
        yield Answer(question, text + done, "extractive", confidence, citations[:i], tuple(hits))


def _choose(snapshot: Snapshot, ranking: Ranking) -> list[_Span]:
    """Pick the best sentences within the length, with the context they lean on, in source order."""
    listed = bool(_LIST.search(ranking.query.text))
    longest = LONGEST_LIST if listed else LONGEST
    most = _LIST_SENTENCES if listed else _SENTENCES
    chosen: dict[int, float] = {}
    length = 0
    best = float(ranking.scores[0])
    for row, score in zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True):
        if len(chosen) == most or best - score > _MARGIN:
            break
        passage, start, end = snapshot.sentence(row)
        size = end - start
        if chosen and length + size > longest:
            continue
        chosen[row] = score
        length += size
    for row in list(chosen):
        passage, start, end = snapshot.sentence(row)
        sentence = passage.text[start - passage.start : end - passage.start]
        first = (passage.start, passage.start) if start == passage.start else None
        if first or row - 1 in chosen or not _LEANS.match(sentence):
            continue
        _, before_start, before_end = snapshot.sentence(row - 1)
        if length + before_end - before_start <= longest and len(chosen) < most + 1:
            chosen[row - 1] = chosen[row]
            length += before_end - before_start
    return _merge(snapshot, chosen)


def _merge(snapshot: Snapshot, chosen: dict[int, float]) -> list[_Span]:
    """Join neighbours of one passage; documents by their best sentence, spans as in the source."""
    spans: list[_Span] = []
    last = -2
    for row in sorted(chosen):
        at = int(snapshot.sentence_passage[row])
        _, start, end = snapshot.sentence(row)
        if spans and row == last + 1 and spans[-1].passage == at:
            previous = spans[-1]
            spans[-1] = replace(previous, end=end, score=max(previous.score, chosen[row]))
        else:
            spans.append(_Span(at, start, end, chosen[row]))
        last = row
    best: dict[int, float] = {}
    for span in spans:
        owner = int(snapshot.passage_document[span.passage])
        best[owner] = max(best.get(owner, -np.inf), span.score)
    return sorted(
        spans, key=lambda s: (-best[int(snapshot.passage_document[s.passage])], s.passage, s.start)
    )


def _cite(snapshot: Snapshot, number: int, span: _Span) -> Citation:
    passage = snapshot.passages[span.passage]
    owner = int(snapshot.passage_document[span.passage])
    document = snapshot.documents[owner]
    return Citation(
        number=number,
        passage_id=passage.id,
        document_id=document.id,
        title=document.title,
        source=document.source,
        quote=document.text[span.start : span.end],
        start=span.start,
        end=span.end,
        page=document.page_at(span.start),
        also=snapshot.also(owner),
    )


# --- with a language model -------------------------------------------------------------------------

_SYSTEM = (
    "You answer a question from numbered quotations alone. Use nothing else. Put the number of the "
    "quotation in square brackets behind each statement, like [1]. Answer in the language of the "
    "question, in one to three sentences. If the quotations do not answer it, say NONE."
)


def _generate(ranking: Ranking, citations: tuple[Citation, ...], hits: Sequence[Hit],
              confidence: float, generator: Generator) -> Iterator[Answer]:  # fmt: skip
    question, language = ranking.query.text, ranking.query.language
    quoted = "\n".join(f"[{c.number}] {c.quote}" for c in citations)
    text = ""
    for piece in generator.stream(_SYSTEM, f"{quoted}\n\nQuestion: {question}"):
        text += piece
        if not "NONE".startswith(text.strip()[:4]):
            yield Answer(question, text, "generated", confidence, citations, tuple(hits))
    if text.strip().rstrip(".") == "NONE" or not text.strip():
        yield Answer(question, _ABSTAINED[language], "abstained", confidence, (), tuple(hits))
        return
    numbers = {citation.number for citation in citations}
    # A number that stands for no quotation is no evidence, and is taken out.
    text = re.sub(r"\s?\[(\d+)\]", lambda m: m.group() if int(m.group(1)) in numbers else "", text)
    used = {int(n) for n in re.findall(r"\[(\d+)\]", text)}
    kept = tuple(c for c in citations if c.number in used) or citations
    yield Answer(question, text, "generated", confidence, kept, tuple(hits))
