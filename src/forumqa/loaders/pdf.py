"""PDF: running text by page, through PDFium (pypdfium2).

A PDF holds glyphs at places, no paragraphs. Lines are joined into paragraphs by their geometry:
a line ends a paragraph where the next line's first word would still have fitted, where the gap
below is wide, the letters change size, or a list item follows.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from forumqa import text as tx
from forumqa.loaders.blocks import PAGE, Block, compose, iso_date
from forumqa.loaders.plain import standing_alone
from forumqa.schema import Document, LoadFailed

MAX_PAGES = 2000
# Lines of a page, counted from its edge, among which running headers and footers are looked for.
_EDGE = 2
# A running header stands on so large a part of the pages, at least two, or three where it counts.
_REPEATED_SHARE = 0.5
_PAGE_NUMBER = re.compile(
    r"[-–—\s<\[(|·]*(?:page|p\.|제)?\s*(\d{1,4})\s*(?:(?:/|of)\s*\d{1,4})?\s*(?:쪽|페이지|면)?"
    r"[-–—\s>\])|·]*",
    re.IGNORECASE,
)
_ITEM = re.compile(r"(?:[-*•‣◦▲△■□○●◇◆※·▶❍]|\d{1,2}[.)]\s|[가-하][.)]\s|[①-⑳])")
# Letters so much larger than the usual ones make a heading.
_LARGER = 1.15
# PDFium puts one of these where a word is hyphenated at the end of a line.
_HYPHEN = ("\x02", "\ufffe", "\xad")
_LAST_WORD, _FIRST_WORD = re.compile(r"[\w-]*\xad?$"), re.compile(r"^[\w-]*")
# Single syllables that are an ending or a particle, and no word that could begin a line.
_TAILS = "다요까은는을를과와로며"


@dataclass(slots=True)
class _Line:
    """One line of a page, in points from its lower left corner. ``blank`` says whether the writer
    put a blank at its end; ``first_word`` is the width of the first word."""

    text: str
    left: float
    right: float
    bottom: float
    size: float
    first_word: float
    blank: bool
    page: int


def load(data: bytes, document_id: str) -> Document:
    import pypdfium2

    try:
        file = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "assword" in str(error):
            raise LoadFailed("the PDF is protected by a password; save it without one") from error
        raise LoadFailed(
            "the PDF is damaged or cut short; get it anew, or print it to a new PDF"
        ) from error
    try:
        return _read(file, document_id)
    except pypdfium2.PdfiumError as error:
        raise LoadFailed(
            f"the PDF is damaged ({error}); get it anew, or print it to a new PDF"
        ) from error
    finally:
        file.close()


def _read(file: Any, document_id: str) -> Document:
    if len(file) > MAX_PAGES:
        raise LoadFailed(f"the PDF has {len(file)} pages, over {MAX_PAGES}; split it")
    pages = []
    unreadable = readable = 0
    for number in range(len(file)):
        lines, bad = _lines(file, number)
        pages.append(lines)
        unreadable += bad
        readable += sum(len(line.text) for line in lines)
    if not readable and not unreadable:
        raise LoadFailed(
            "the PDF holds pictures of pages and no text; run text recognition (OCR) on it first"
        )
    if unreadable > readable:
        raise LoadFailed(
            "the PDF does not say which letters its glyphs are; run text recognition (OCR) on it, "
            "or get the original document"
        )
    about = file.get_metadata_dict()
    return compose(
        _paragraphs(_without_running_lines(pages)),
        document_id,
        file_property=about.get("Title", ""),
        date=iso_date(about.get("CreationDate", "")),
        paged=True,
    )


# --- glyphs to lines -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Glyph:
    text: str
    left: float
    right: float
    bottom: float
    top: float


def _lines(file: Any, number: int) -> tuple[list[_Line], int]:
    """Return the lines of a page, and how many of its glyphs stand for no known letter."""
    page = file[number]
    text_page = page.get_textpage()
    rows: list[list[_Glyph]] = [[]]
    bad = 0
    for glyph in _glyphs(text_page):
        if glyph.text == "\n":
            rows.append([])
        elif glyph.text == "\ufffd" or "\ue000" <= glyph.text <= "\uf8ff":
            bad += 1
        else:
            rows[-1].append(glyph)
            if glyph.text in _HYPHEN:
                # PDFium leaves the line end out behind it.
                rows.append([])
    text_page.close()
    page.close()
    lines: list[_Line] = []
    for row in rows:
        line = _line(row, number)
        if line is None:
            continue
        last = lines[-1] if lines else None
        level = last is not None and abs(last.bottom - line.bottom) < 0.3 * line.size
        if last is not None and level and line.left >= last.right:
            last.text += (" | " if line.left - last.right > 1.5 * line.size else " ") + line.text
            last.right, last.blank = line.right, line.blank
        else:
            lines.append(line)
    return lines, bad


def _glyphs(text_page: Any) -> Iterator[_Glyph]:
    import pypdfium2.raw as pdfium

    unicode, box_of = pdfium.FPDFText_GetUnicode, pdfium.FPDFText_GetLooseCharBox
    handle, box = text_page.raw, pdfium.FS_RECTF()
    into = ctypes.byref(box)
    half = ""
    last: _Glyph | None = None
    pending = False
    for i in range(text_page.count_chars()):
        text = chr(unicode(handle, i))
        if "\ud800" <= text < "\udc00":
            half = text
            continue
        if half or "\udc00" <= text < "\ue000":
            text = (half + text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            half = ""
        if text in ("\r", "\n", "\0"):
            if text == "\n":
                yield _Glyph("\n", 0, 0, 0, 0)
                last, pending = None, False
            continue
        if text == " " and pdfium.FPDFText_IsGenerated(handle, i) == 1:
            pending = True
            continue
        if not box_of(handle, i, into):
            box.left = box.right = box.top = box.bottom = 0.0
        glyph = _Glyph(text, box.left, box.right, box.bottom, box.top)
        if pending and last is not None:
            # PDFium's guess at a blank that the file does not hold. Writers set a narrow space
            # between Hangul and digits; a blank is wider.
            gap, size = glyph.left - last.right, max(glyph.top - glyph.bottom, 1.0)
            mixed = _hangul(last.text) != _hangul(text) and (last.text + text).isalnum()
            if gap > (0.3 if mixed else 0.0) * size:
                yield _Glyph(" ", last.right, glyph.left, glyph.bottom, glyph.top)
        pending = False
        yield glyph
        last = glyph


def _line(row: list[_Glyph], page: int) -> _Line | None:
    while row and row[0].text.isspace():
        row = row[1:]
    blank = bool(row) and row[-1].text.isspace()
    while row and row[-1].text.isspace():
        row = row[:-1]
    if not row:
        return None
    size = statistics.median(max(g.top - g.bottom, 0.0) for g in row) or 10.0
    pieces: list[str] = []
    for i, glyph in enumerate(row):
        wide = glyph.text.isspace() and row[i + 1].left - row[i - 1].right > 2 * size
        so_far = "".join(pieces) if wide else ""
        pieces.append(" | " if wide and not _marker(so_far) else glyph.text)
    raw = "".join(pieces)
    hyphenated = raw[-1] in _HYPHEN
    text = " ".join(tx.normalize(raw).split()) + ("\xad" if hyphenated else "")
    if not text:
        return None
    end = next((i for i, g in enumerate(row) if g.text.isspace()), len(row))
    return _Line(
        text=text,
        left=row[0].left,
        right=row[-1].right,
        bottom=statistics.median(g.bottom for g in row),
        size=size,
        first_word=row[end - 1].right - row[0].left,
        blank=blank,
        page=page,
    )


def _marker(text: str) -> bool:
    return len(text) <= 4 and not text.isalpha()


def _hangul(text: str) -> bool:
    return "가" <= text <= "힣"


# --- lines to paragraphs -------------------------------------------------------------------------


def _without_running_lines(pages: list[list[_Line]]) -> list[list[_Line]]:
    """Drop page numbers, and what stands at the edge of most pages."""
    edges = [{*range(_EDGE), *range(len(lines) - _EDGE, len(lines))} for lines in pages]
    exact: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    offsets: Counter[int] = Counter()
    for number, (lines, edge) in enumerate(zip(pages, edges, strict=True)):
        near = [line for i, line in enumerate(lines) if i in edge]
        exact.update({line.text for line in near})
        shapes.update({_shape(line.text) for line in near})
        offsets.update(
            {int(m[1]) - number for line in near if (m := _PAGE_NUMBER.fullmatch(line.text))}
        )
    often = _REPEATED_SHARE * len(pages)
    kept = []
    for number, (lines, edge) in enumerate(zip(pages, edges, strict=True)):
        rest = []
        for i, line in enumerate(lines):
            found = _PAGE_NUMBER.fullmatch(line.text)
            offset = int(found[1]) - number if found else None
            numbered = offset is not None and (offset == 1 or offsets[offset] > 1)
            repeated = exact[line.text] >= max(2, often)
            repeated = repeated or shapes[_shape(line.text)] >= max(3, often)
            if i not in edge or not (numbered or repeated):
                rest.append(line)
        kept.append(rest)
    return kept


def _shape(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def _paragraphs(pages: list[list[_Line]]) -> Iterator[Block]:
    lines = [line for page in pages for line in page]
    margins = _margins(pages)
    pitch = _pitch(lines)
    joiner = _Joiner(lines)
    usual = statistics.median(line.size for line in lines for _ in line.text) if lines else 0.0
    pieces: list[str] = []
    page = 0
    previous: _Line | None = None
    for line in lines:
        turn = PAGE * (line.page - page)
        page = line.page
        if previous is None or _breaks(previous, line, margins[id(previous)], pitch):
            if previous is not None:
                yield _finished("".join(pieces), previous.size > _LARGER * usual)
            pieces = [turn, line.text]
        else:
            pieces[-1], glue = joiner.join(previous, line)
            pieces += [glue, turn, line.text]
        previous = line
    if previous is not None:
        pieces.append(PAGE * (len(pages) - 1 - page))
        yield _finished("".join(pieces), previous.size > _LARGER * usual)


def _finished(text: str, large: bool) -> Block:
    text = text.replace("\xad", "-")
    bare = text.lstrip(PAGE)
    kind = _ITEM.match(bare)
    if kind and kind[0] in "•‣◦▲△■□○●◇◆▶❍" and bare[len(kind[0]) :].strip():
        # The bullet is drawn by the list, not written by the author.
        bare = bare[len(kind[0]) :].lstrip(" " + PAGE)
    text = text[: len(text) - len(text.lstrip(PAGE))] + bare
    if large and standing_alone(bare):
        return Block(text, "heading")
    return Block(text, "item" if kind else "row" if " | " in bare else "paragraph")


def _margins(pages: list[list[_Line]]) -> dict[int, float]:
    """Return for each line how far right the lines of its column go."""
    margins: dict[int, float] = {}
    for lines in pages:
        columns: dict[int, float] = {}
        for line in lines:
            place = round(line.left / 50)
            columns[place] = max(columns.get(place, 0.0), line.right)
        for line in lines:
            place = round(line.left / 50)
            margins[id(line)] = max(columns.get(place + step, 0.0) for step in (-1, 0, 1))
    return margins


def _pitch(lines: list[_Line]) -> float:
    """Return the usual distance between two lines, in heights of the lower one."""
    gaps = [
        (above.bottom - line.bottom) / line.size
        for above, line in itertools.pairwise(lines)
        if above.page == line.page and 0 < above.bottom - line.bottom < 3 * line.size
    ]
    return statistics.median(gaps) if gaps else 1.2


def _breaks(above: _Line, line: _Line, margin: float, pitch: float) -> bool:
    """Tell whether ``line`` begins a new paragraph."""
    if abs(above.size - line.size) > 0.15 * max(above.size, line.size):
        return True
    if _ITEM.match(line.text) or " | " in line.text or " | " in above.text:
        return True
    goes_on = line.text[0].islower() and above.text[-1] not in ".!?:"
    if not goes_on and above.right + 0.2 * line.size + line.first_word < margin:
        return True
    if above.page == line.page and above.bottom - line.bottom > 1.35 * pitch * line.size:
        return True
    indented = line.left - above.left > 0.8 * line.size
    same_column = line.left < above.right
    return indented and same_column and above.page == line.page and not _ITEM.match(above.text)


class _Joiner:
    """Joins two lines of a paragraph: with a blank, or inside a word that was cut at the margin."""

    def __init__(self, lines: list[_Line]) -> None:
        self._words = Counter(
            word for line in lines for word in re.findall(r"[\w-]+", line.text.replace("\xad", ""))
        )
        ends = [line.blank for line in lines if _hangul(line.text[-1:])]
        share = sum(ends) / len(ends) if ends else 0.0
        # Where some lines end in a blank and most do not, the writer cuts words at any syllable
        # and a line without one goes on in the middle of a word.
        self._cuts_words = 0.05 < share < 0.5 and len(ends) >= 8

    def join(self, above: _Line, line: _Line) -> tuple[str, str]:
        """Return the text of the upper line, and what comes between it and the lower one."""
        text = above.text
        last = _LAST_WORD.findall(text[-60:])[0]
        begin = _FIRST_WORD.findall(line.text[:60])[0]
        if last[-1:] in ("\xad", "-") and last[:-1] and begin[:1].islower():
            # A hyphen stays where the same word has one in the middle of a line.
            return text[:-1], "-" if self._words[last[:-1] + "-" + begin] else ""
        if not above.blank and last and _hangul(begin[:1]):
            together = self._words[last + begin]
            if together or (begin[:1] in _TAILS and len(begin) == 1) or self._cuts_words:
                return text, ""
        return text, " "
