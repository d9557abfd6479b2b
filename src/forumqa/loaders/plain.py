"""Plain text: UTF-8, UTF-16 (each with or without BOM), CP949 (a superset of EUC-KR), CP1252."""

from __future__ import annotations

import codecs
import re
from pathlib import PurePosixPath

from forumqa import text as tx
from forumqa.schema import Document, LoadFailed

# A first line up to this long that is no sentence is taken for the title.
_TITLE_LENGTH = 100
# ASCII, Latin-1, punctuation, Hangul (also in parts), kana and Han.
_USUAL = re.compile(
    r"[\t\n\r -~\xa0-\xff\u1100-\u11ff\u2010-\u203a\u2460-\u24ff\u25a0-\u26ff\u3000-\u318f\u4e00-\u9fff가-힣]"
)


def decode(data: bytes) -> str:
    """Return the text of ``data`` in normal form. Raises LoadFailed where it is not text.

    The order matters: nearly no CP949 text is valid UTF-8 by chance, while nearly every UTF-8 text
    decodes as some legacy encoding, so the strict one is tried first.
    """
    return tx.normalize(_decode(data))


def _decode(data: bytes) -> str:
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        if b"\x00" in data:
            return _bare_utf16(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    return legacy(data)


def legacy(data: bytes, damaged: float = 0.0) -> str:
    """Return CP949 or CP1252 text, of which the share ``damaged`` may be. Raises LoadFailed.

    Quotation marks of CP1252 before a letter are also a syllable of CP949, but one from outside of
    the 2350 common ones of KS X 1001, of which any Korean text is full.
    """
    korean = data.decode("cp949", "replace")
    common = sum("가" <= ch <= "힣" for ch in korean.encode("euc-kr", "ignore").decode("euc-kr"))
    rare = sum("가" <= ch <= "힣" for ch in korean) - common
    bad = korean.count("\ufffd")
    if common >= rare and (bad == 0 or 10 * bad < common) and bad <= damaged * len(korean):
        return korean
    try:
        western = data.decode("cp1252")
    except UnicodeDecodeError:
        western = ""
    letters = sum(ch.isascii() and ch.isalpha() for ch in western)
    if western and letters * 2 > len(western):
        return western
    raise LoadFailed("the text is neither UTF-8 nor CP949; save it again as UTF-8")


def _bare_utf16(data: bytes) -> str:
    """Read UTF-16 that has no byte order mark, in the order that gives letters, marks and blanks."""
    for encoding in ("utf-16-le", "utf-16-be"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if len(_USUAL.findall(text)) > 0.95 * len(text):
            return text
    raise LoadFailed("the file is binary, not text; check its name and format")


def file_title(document_id: str) -> str:
    """Return a title made of the file's name."""
    return PurePosixPath(document_id).stem.replace("_", " ").replace("-", " ").strip()


def standing_alone(line: str) -> bool:
    """Tell whether a line is no sentence and short enough to be a title or heading."""
    return 0 < len(line) <= _TITLE_LENGTH and not line.endswith((".", "?", "!", "…", ".”", '."'))


def load(data: bytes, document_id: str) -> Document:
    body = decode(data).strip("\n")
    first, _, rest = body.lstrip().partition("\n")
    first = first.strip()
    title = file_title(document_id)
    if standing_alone(first) and rest.strip():
        # The title is context for its passages, not a sentence to quote.
        title, body = first, rest.strip("\n")
    return Document(
        id=document_id, title=title, text=body, language=tx.language_of(body), source=document_id
    )
