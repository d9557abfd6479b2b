"""Word documents (DOCX): ECMA-376 WordprocessingML, in document order.

Read from the XML itself, with the standard library: python-docx passes over text boxes, content
controls and tracked insertions, and neither it nor mammoth bounds what an archive unpacks to.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from forumqa.loaders.blocks import Block, compose, iso_date, rows, styled
from forumqa.loaders.package import Package
from forumqa.schema import Document, LoadFailed

# What is not shown: deleted and moved text, field codes, the second copy kept for old programs.
_HIDDEN = {"del", "moveFrom", "instrText", "delText", "Fallback", "rt", "pPr", "rPr", "sectPr",
           "annotationRef", "tblPr", "sdtPr"}  # fmt: skip
_BLANKS = {"tab": " ", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": " "}


def load(data: bytes, document_id: str) -> Document:
    package = Package(data, "DOCX")
    parts = package.matching(r"word/document(\d*)\.xml")
    if not parts:
        raise LoadFailed("the file holds no Word document; open it in its program and save as DOCX")
    reader = _Reader(package)
    properties = {
        child.tag: child.text or "" for child in package.optional_xml("docProps/core.xml")
    }
    return compose(
        reader.blocks(package.xml(parts[0])),
        document_id,
        file_property=properties.get("title", ""),
        date=iso_date(properties.get("created", "")),
    )


class _Reader:
    def __init__(self, package: Package) -> None:
        self._styles: dict[str, str] = {}
        for style in package.optional_xml("word/styles.xml").iter("style"):
            name, outline = style.find("name"), style.find("pPr/outlineLvl")
            shown = name.get("val", "") if name is not None else ""
            if outline is not None and outline.get("val", "9") < "9":
                shown = f"heading {int(outline.get('val', '0')[:1]) + 1}"
            self._styles[style.get("styleId", "")] = shown
        notes = ("word/footnotes.xml", "word/endnotes.xml")
        self._notes = {
            (note.tag, note.get("id", "")): note
            for part in notes
            for note in package.optional_xml(part)
            if note.get("type", "normal") == "normal"
        }

    def blocks(self, element: Element) -> Iterator[Block]:
        for child in element:
            if child.tag == "p":
                yield from self._paragraph(child)
            elif child.tag == "tbl":
                yield from rows(self._cells(child))
            elif child.tag not in _HIDDEN:
                yield from self.blocks(child)

    def _paragraph(self, paragraph: Element) -> Iterator[Block]:
        pieces: list[str] = []
        behind: list[Element] = []
        self._collect(paragraph, pieces, behind)
        style, outline = paragraph.find("pPr/pStyle"), paragraph.find("pPr/outlineLvl")
        name = self._styles.get(style.get("val", ""), "") if style is not None else ""
        if outline is not None and outline.get("val", "9") < "9":
            name = "heading 2"
        made = styled("".join(pieces), name)
        if made.kind == "paragraph" and paragraph.find("pPr/numPr") is not None:
            made = Block(made.text, "item")
        yield made
        for element in behind:
            yield from self.blocks(element)

    def _collect(self, element: Element, pieces: list[str], behind: list[Element]) -> None:
        for child in element:
            if child.tag == "t":
                pieces.append(child.text or "")
            elif child.tag in _BLANKS:
                pieces.append(_BLANKS[child.tag])
            elif child.tag in ("txbxContent", "tbl"):
                behind.append(child)
            elif child.tag in ("footnoteReference", "endnoteReference"):
                kind = child.tag.removesuffix("Reference")
                note = self._notes.pop((kind, child.get("id", "")), None)
                if note is not None:
                    behind.append(note)
            elif child.tag not in _HIDDEN:
                self._collect(child, pieces, behind)

    def _cells(self, table: Element) -> Iterator[tuple[int, int, int, list[Block]]]:
        above: dict[int, list[Block]] = {}
        for number, row in enumerate(_children(table, "tr")):
            column = 0
            for cell in _children(row, "tc"):
                span, merge = cell.find("tcPr/gridSpan"), cell.find("tcPr/vMerge")
                content = [b for b in self.blocks(cell) if b.text]
                if merge is not None and merge.get("val") != "restart":
                    content = content or above.get(column, [])
                above[column] = content
                yield number, column, 1, content
                column += _number(span.get("val", "")) if span is not None else 1


def _children(element: Element, tag: str) -> Iterator[Element]:
    """Yield the children of a name, also those inside content controls."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _children(child, tag)


def _number(digits: str) -> int:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 4 else 1
