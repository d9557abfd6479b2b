"""HWPX, the present format of Hangul: a zip archive of OWPML (KS X 6101).

Written against the standard library. python-hwpx (an editor, 90 000 lines) and hwp-hwpx-parser
(which mixes page headers into the text and has no limits) were tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from forumqa.loaders.blocks import Block, compose, iso_date, rows, styled
from forumqa.loaders.package import Package
from forumqa.schema import Document, LoadFailed

# Parts of the page and of the editor, not of the running text.
_HIDDEN = {"header", "footer", "hiddenComment", "secPr", "masterPage", "equation", "linesegarray",
           "fieldBegin", "parameters", "shapeComment"}  # fmt: skip
_BLANKS = {"lineBreak": "\n", "tab": " ", "nbSpace": " ", "fwSpace": " ", "hyphen": "-"}


def load(data: bytes, document_id: str) -> Document:
    package = Package(data, "HWPX")
    manifest = "META-INF/manifest.xml"
    if manifest in package.names and b"encryption-data" in package.read(manifest):
        raise LoadFailed(
            "the HWPX file is protected by a password; save it without one, or delete it"
        )
    sections = package.matching(r"Contents/section(\d+)\.xml")
    if not sections:
        raise LoadFailed("the archive holds no HWPX text; open it in Hangul and save it as HWPX")
    head = package.optional_xml("Contents/header.xml")
    about = package.optional_xml("Contents/content.hpf")
    created = [meta.text or "" for meta in about.iter("meta") if meta.get("name") == "CreatedDate"]
    titles = [title.text or "" for title in about.iter("title")]
    reader = _Reader(head)
    return compose(
        [found for name in sections for found in reader.blocks(package.xml(name))],
        document_id,
        file_property=titles[0] if titles else "",
        date=iso_date(created[0]) if created else "",
    )


class _Reader:
    def __init__(self, head: Element) -> None:
        self._styles = {style.get("id"): style.get("name", "") for style in head.iter("style")}

    def blocks(self, element: Element) -> Iterator[Block]:
        for child in element:
            if child.tag == "p":
                yield from self._paragraph(child)
            elif child.tag == "tbl":
                yield from self._table(child)
            elif child.tag not in _HIDDEN:
                yield from self.blocks(child)

    def _paragraph(self, paragraph: Element) -> Iterator[Block]:
        pieces: list[str] = []
        deleted = False
        for part in paragraph.iterfind("run/t"):
            pieces.append("" if deleted else part.text or "")
            for mark in part:
                if mark.tag in ("deleteBegin", "deleteEnd"):
                    deleted = mark.tag == "deleteBegin"
                elif not deleted:
                    pieces.append(_BLANKS.get(mark.tag, ""))
                pieces.append("" if deleted else mark.tail or "")
        yield styled("".join(pieces), self._styles.get(paragraph.get("styleIDRef"), ""))
        for run in paragraph.iterfind("run"):
            yield from self.blocks(run)

    def _table(self, table: Element) -> Iterator[Block]:
        for caption in table.iterfind("caption"):
            yield from self.blocks(caption)
        cells = []
        for number, row in enumerate(table.iterfind("tr")):
            for place, cell in enumerate(row.iterfind("tc")):
                at, span = cell.find("cellAddr"), cell.find("cellSpan")
                column = _number(at, "colAddr", place)
                content = [b for b in self.blocks(cell) if b.text]
                cells.append((number, column, _number(span, "rowSpan", 1), content))
        yield from rows(cells)


def _number(element: Element | None, name: str, otherwise: int) -> int:
    digits = element.get(name, "") if element is not None else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else otherwise
