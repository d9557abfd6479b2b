"""Blocks to documents: every format ends as the same few kinds of block, parted by blank lines."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from forumqa import text as tx
from forumqa.loaders.plain import file_title, standing_alone
from forumqa.schema import Document, Section

Kind = Literal["paragraph", "title", "heading", "item", "row", "code"]

# Stands in the text of blocks where a new page begins, from the second page on. Clean text never
# holds one: ``text.normalize`` makes it a line end.
PAGE = "\f"
# A merged cell is repeated in so many rows below it; a longer one is a mistake or an attack.
_MAX_ROWSPAN = 100
# Names that word processors give to a document nobody has named.
_NO_TITLE = re.compile(
    r"(?:untitled|제목 ?없음|무제|문서 ?\d*|document ?\d*|빈 ?문서 ?\d*|microsoft word\b.*"
    r"|.*\.(?:hwpx?|docx?|html?|pdf|odt))",
    re.IGNORECASE,
)
_STYLE = re.compile(r"(?:개요|제목|outline|heading|title)\s*(\d*)(?:\s|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, list item or table row; its text is clean (see :func:`block`)."""

    text: str
    kind: Kind = "paragraph"


def block(text: str, kind: Kind = "paragraph") -> Block:
    """Return a block of ``text`` in normal form: single blanks, no blank lines (code keeps its)."""
    text = tx.normalize(text)
    if kind == "code":
        return Block(text.strip("\n"), kind)
    separator = "\n" if kind in ("paragraph", "item") else " "
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return Block(separator.join(line for line in lines if line), kind)


def styled(text: str, style: str) -> Block:
    """Return a block whose kind is told by the name of its style ("개요 1", "Heading 2").

    Writers also set whole paragraphs in outline styles, for the numbering; what reads as a sentence
    or runs long is none of a heading.
    """
    found = _STYLE.match(style.strip())
    plain = block(text)
    if not found or not standing_alone(plain.text.replace("\n", " ")):
        return plain
    top = found[0].strip().lower() in ("제목", "title") or found[1] == "1"
    return block(text, "title" if top else "heading")


def rows(cells: Iterable[tuple[int, int, int, Sequence[Block]]]) -> list[Block]:
    """Return a table as blocks, from cells of (row, column, row span, content).

    A row reads ``a | b | c``; a cell that spans rows is repeated in each, since each row has to make
    sense alone. A table of one column is a frame around text, and its content stands for itself.
    """
    grid: dict[int, list[tuple[int, str, Sequence[Block]]]] = {}
    spanning: list[tuple[int, int, int, str]] = []
    for row, column, span, content in cells:
        text = " ".join(b.text.replace("\n", " ") for b in content)
        grid.setdefault(row, []).append((column, text, content))
        if 1 < span <= _MAX_ROWSPAN:
            spanning.append((row, column, span, text))
    if all(len(row) == 1 for row in grid.values()):
        return [b for row in sorted(grid) for b in grid[row][0][2]]
    for row, column, span, text in spanning:
        for below in range(row + 1, row + span):
            if below in grid and all(column != other for other, _, _ in grid[below]):
                grid[below].append((column, text, ()))
    out = []
    for row in sorted(grid):
        texts = [text for _, text, _ in sorted(grid[row], key=lambda cell: cell[0])]
        if any(texts):
            out.append(Block(" | ".join(texts), "row"))
    return out


def iso_date(text: str) -> str:
    """Return the first date of ``text`` as YYYY-MM-DD, or "": "D:20180607..." -> "2018-06-07"."""
    found = re.search(r"((?:19|20)\d\d)[-./년 ]{0,2}([01]\d)[-./월 ]{0,2}([0-3]\d)", text)
    return "-".join(found.groups()) if found else ""


def compose(blocks: Iterable[Block], document_id: str, *, title: str = "", file_property: str = "",
            date: str = "", source: str = "", language: str = "", questions: tuple[str, ...] = (),
            paged: bool = False) -> Document:  # fmt: skip
    """Return the document made of ``blocks``.

    Its title is ``title``, else a title or line that stands alone at the front, else the title among
    the file's properties (which writers often leave at the template's), else the file's name. A
    block at the front that repeats the title is context for the passages, not a sentence to quote.
    """
    kept = [b for b in blocks if b.text.replace(PAGE, "")]
    front = kept[0].text.replace(PAGE, "") if kept else ""
    title = " ".join(tx.normalize(title).split())
    if not title and len(kept) > 1:
        named = kept[0].kind == "paragraph" and standing_alone(front)
        if named or kept[0].kind in ("title", "heading"):
            title = " ".join(front.split())
    if not title:
        given = " ".join(tx.normalize(file_property).split())
        title = "" if _NO_TITLE.fullmatch(given) else given
    if len(kept) > 1 and " ".join(front.split()) == title:
        pages = PAGE * kept[0].text.count(PAGE)
        kept[:2] = [Block(pages + kept[1].text, kept[1].kind)]
    marked = "\n\n".join(b.text for b in kept)
    text = unicodedata.normalize("NFC", marked.replace(PAGE, ""))
    sections, at = [], 0
    for b in kept:
        bare = b.text.replace(PAGE, "")
        if b.kind in ("title", "heading"):
            sections.append(Section(start=at, heading=bare))
        at += len(bare) + 2
    return Document(
        id=document_id,
        title=title or file_title(document_id),
        text=text,
        source=source or document_id,
        date=date,
        language=language or tx.language_of(text),
        sections=tuple(sections),
        questions=questions,
        pages=_pages(marked) if paged else (),
    )


def _pages(marked: str) -> tuple[int, ...]:
    offsets, at = [0], 0
    for part in marked.split(PAGE)[:-1]:
        at += len(part)
        offsets.append(at)
    return tuple(offsets)
