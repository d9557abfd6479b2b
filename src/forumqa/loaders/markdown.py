"""Markdown with optional YAML front matter, to plain text with headings.

Mark-up is resolved by markdown-it, so that a quote reads as the page does: no asterisks, link
targets or table pipes.
"""

from __future__ import annotations

import re
from datetime import date
from itertools import groupby, pairwise
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from forumqa import text as tx
from forumqa.loaders.blocks import Block, Kind, block, compose
from forumqa.loaders.plain import decode
from forumqa.schema import Document, LoadFailed


def load(data: bytes, document_id: str) -> Document:
    matter, body = _front_matter(decode(data))
    questions = matter.get("questions")
    return compose(
        _blocks(MarkdownIt("commonmark").enable("table").parse(body)),
        document_id,
        title=_scalar(matter, "title"),
        source=_scalar(matter, "source"),
        date=_scalar(matter, "date"),
        language=_scalar(matter, "language"),
        questions=tuple(q for q in questions if isinstance(q, str))
        if isinstance(questions, list)
        else (),
    )


def _scalar(matter: dict[str, Any], name: str) -> str:
    """Return a value as text; lists and maps, which aliases can make endless, count as none."""
    value = matter.get(name)
    return str(value) if isinstance(value, str | int | float | date) else ""


def _front_matter(text: str) -> tuple[dict[str, Any], str]:
    lines = text.lstrip("\n").split("\n")
    if not lines or lines[0].strip() != "---":
        return {}, text
    for i, line in enumerate(lines[1:], 1):
        if line.strip() in ("---", "..."):
            try:
                matter = yaml.safe_load("\n".join(lines[1:i])) or {}
            except (yaml.YAMLError, ValueError, RecursionError) as error:
                where = getattr(error, "problem_mark", None)
                at = f" (line {where.line + 2})" if where else ""
                raise LoadFailed(
                    f"the front matter is not valid YAML{at}; correct it or remove it"
                ) from error
            if not isinstance(matter, dict):
                return {}, text
            return matter, "\n".join(lines[i + 1 :])
    return {}, text


def _blocks(tokens: list[Token]) -> list[Block]:
    out: list[Block] = []
    kind: Kind = "paragraph"
    items = 0
    row: list[str] | None = None
    for token in tokens:
        if token.type == "heading_open":
            kind = "title" if token.tag == "h1" else "heading"
        elif token.type == "heading_close":
            kind = "paragraph"
        elif token.type in ("list_item_open", "list_item_close"):
            items += 1 if token.type == "list_item_open" else -1
        elif token.type == "tr_open":
            row = []
        elif token.type == "tr_close" and row is not None:
            out.append(Block(" | ".join(row), "row"))
            row = None
        elif token.type == "inline":
            content = _inline(token.children or [])
            if row is not None:
                row.append(content)
            else:
                out.append(block(content, "item" if items and kind == "paragraph" else kind))
        elif token.type in ("fence", "code_block"):
            out.append(block(token.content, "code"))
    return out


def _inline(children: list[Token]) -> str:
    parts: list[str] = []
    for child in children:
        if child.type in ("text", "code_inline") or child.type == "image":
            parts.append(child.content)
        elif child.type == "softbreak":
            parts.append(" ")
        elif child.type == "hardbreak":
            parts.append("\n")
    return "".join(parts).strip()


# What would be mark-up anywhere, and what would be at the start of a line (CommonMark 0.31; the
# marks of a table's second line among them).
_ANYWHERE = re.compile(r"[\\`*_\[<]|&(?=#?\w+;)|(?<!\S)#")
_AT_START = re.compile(r"^(\d{1,9}(?=[.)])|(?=[>|:=+~-]))")


def dump(document: Document) -> bytes:
    """Return the document as Markdown, the inverse of ``load``: the same text comes back, in the
    same paragraphs and lines, whatever marks stand in it; headings are of the second level.

    Only white space is not kept: within a line it becomes single blanks.
    """
    matter = {
        "title": " ".join(document.title.split()),
        "date": document.date,
        "source": document.source,
        "language": document.language,
        "questions": list(document.questions),
    }
    head = yaml.safe_dump(
        {name: value for name, value in matter.items() if value},
        allow_unicode=True,
        sort_keys=False,
        # A folded line could look like the end of the front matter.
        width=2**31,
    )
    starts = [section.start for section in document.sections] + [len(document.text)]
    parts = _paragraphs(document.text[: starts[0]])
    for section, (start, end) in zip(document.sections, pairwise(starts), strict=True):
        body = document.text[start:end]
        heading = " ".join(section.heading.split())
        if heading:
            body = body.removeprefix(section.heading)
            parts.append(f"## {_escaped(heading)}")
        parts += _paragraphs(body)
    return "\n\n".join([f"---\n{head}---", *parts, ""]).encode()


def _paragraphs(text: str) -> list[str]:
    lines = (" ".join(line.split()) for line in tx.normalize(text).split("\n"))
    runs = [list(run) for filled, run in groupby(lines, bool) if filled]
    return ["\\\n".join(map(_escaped, run)) for run in runs]


def _escaped(line: str) -> str:
    line = _ANYWHERE.sub(r"\\\g<0>", line)
    return _AT_START.sub(r"\1\\", line)
