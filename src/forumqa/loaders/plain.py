"""Plain text: UTF-8 (with or without BOM), UTF-16 with BOM, CP949."""

from __future__ import annotations

import codecs
from pathlib import PurePosixPath

from forumqa import text as tx
from forumqa.schema import Document, LoadFailed

# A first line up to this long that is no sentence is taken for the title.
_TITLE_LENGTH = 100


def decode(data: bytes) -> str:
    """Return the text of ``data`` in NFC. Raises LoadFailed where it is not text.

    The order matters: nearly no CP949 text is valid UTF-8 by chance, while nearly every UTF-8 text
    decodes as some legacy encoding, so the strict one is tried first.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        candidates = ["utf-16"]
    elif b"\x00" in data:
        raise LoadFailed("the file is binary, not text; check its name and format")
    else:
        candidates = ["utf-8-sig", "cp949"]
    for encoding in candidates:
        try:
            return tx.normalize(data.decode(encoding))
        except UnicodeDecodeError:
            continue
    raise LoadFailed("the text is neither UTF-8 nor CP949; save it again as UTF-8")


def file_title(document_id: str) -> str:
    """Return a title made of the file's name."""
    return PurePosixPath(document_id).stem.replace("_", " ").replace("-", " ").strip()


def load(data: bytes, document_id: str) -> Document:
    body = decode(data).strip("\n")
    first, _, rest = body.lstrip().partition("\n")
    first = first.strip()
    standing_alone = 0 < len(first) <= _TITLE_LENGTH and not first.endswith((".", "?", "!", "…"))
    title = file_title(document_id)
    if standing_alone and rest.strip():
        # The title is context for its passages, not a sentence to quote.
        title, body = first, rest.strip("\n")
    return Document(
        id=document_id, title=title, text=body, language=tx.language_of(body), source=document_id
    )
