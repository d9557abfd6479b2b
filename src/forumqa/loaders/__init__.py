"""Readers of files, one function by file suffix: bytes in, a Document out.

To add a format, write ``load(data, document_id) -> Document`` in a module of its own and name it
in ``LOADERS``. A loader raises LoadFailed with one sentence that says what is wrong with the file
and what to do; it never guesses its way around damage. Packages beyond the standard library are
imported when a file needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from forumqa.loaders import docx, html, hwp, hwpx, kinds, markdown, pdf, plain
from forumqa.schema import Document, LoadFailed

LOADERS: dict[str, Callable[[bytes, str], Document]] = {
    ".txt": plain.load,
    ".md": markdown.load,
    ".markdown": markdown.load,
    ".html": html.load,
    ".htm": html.load,
    ".pdf": pdf.load,
    ".docx": docx.load,
    ".hwp": hwp.load,
    ".hwpx": hwpx.load,
}
# Raised whenever a loader reads some file differently than before, so that rebuilds read it anew.
LOADERS_VERSION = 2
# An article is a few kilobytes; a file over this is a mistake (a database dump, a log).
MAX_BYTES = 50 * 1024 * 1024
# Some 1500 printed pages: a longer text is a book, and its passages would crowd all others out.
MAX_CHARACTERS = 3_000_000


def load(data: bytes, document_id: str) -> Document:
    """Return the document in ``data``, read as its suffix says. Raises LoadFailed."""
    suffix = PurePosixPath(document_id).suffix.lower()
    if suffix not in LOADERS:
        raise LoadFailed(f"the format {suffix or 'without a suffix'} is not read; save it as .txt")
    if len(data) > MAX_BYTES:
        raise LoadFailed(
            f"the file is larger than {MAX_BYTES // 2**20} MiB; split it or leave it out"
        )
    if not data.strip():
        raise LoadFailed("the file is empty; add text or delete it")
    kinds.check(data, suffix)
    document = LOADERS[suffix](data, document_id)
    if not any(ch.isalnum() for ch in document.text):
        raise LoadFailed("the file holds no text; add some or delete it")
    if len(document.text) > MAX_CHARACTERS:
        raise LoadFailed(
            f"the text is longer than {MAX_CHARACTERS:,} characters; split it into several files"
        )
    return document
