"""Documents to passages: a few sentences each, cut on sentence and heading boundaries."""

from __future__ import annotations

import math

from forumqa import text as tx
from forumqa.schema import Document, Passage, Section

CHUNKER_VERSION = 1
# A newspaper paragraph or two. Longer passages dilute BM25, shorter ones lose the subject that the
# sentence before has named.
TARGET_LENGTH = 900


def split(document: Document) -> list[Passage]:
    """Return the passages of a document, in order.

    Each is a run of whole sentences under one heading, about ``TARGET_LENGTH`` characters or one
    sentence, and ``document.text[p.start:p.end] == p.text``.
    """
    passages: list[Passage] = []
    for section, spans in _sections(document):
        for group in _groups(spans):
            start, end = group[0][0], group[-1][1]
            passages.append(
                Passage(
                    id=f"{document.id}#{start}-{end}",
                    document_id=document.id,
                    text=document.text[start:end],
                    start=start,
                    end=end,
                    heading=section.heading,
                    page=document.page_at(start),
                    sentences=tuple(group),
                )
            )
    return passages


def _sections(document: Document) -> list[tuple[Section, list[tuple[int, int]]]]:
    sections = list(document.sections)
    if not sections or sections[0].start > 0:
        sections.insert(0, Section(start=0, heading=""))
    out = []
    for i, section in enumerate(sections):
        end = sections[i + 1].start if i + 1 < len(sections) else len(document.text)
        body = document.text[section.start : end]
        spans = [(section.start + a, section.start + b) for a, b in tx.sentence_spans(body)]
        # The heading itself is context, not an answer.
        if spans and section.heading:
            first = document.text[spans[0][0] : spans[0][1]]
            if first.strip("# ") == section.heading:
                spans = spans[1:]
        if spans:
            out.append((section, spans))
    return out


def _groups(spans: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Cut a run of sentences into groups of about equal length, none much over the target."""
    total = spans[-1][1] - spans[0][0]
    wanted = total / max(1, math.ceil(total / TARGET_LENGTH))
    groups: list[list[tuple[int, int]]] = [[]]
    for start, end in spans:
        current = groups[-1]
        if current and end - current[0][0] > wanted * 1.15:
            groups.append([])
        groups[-1].append((start, end))
    return groups
