"""What a file is by its first bytes and the names inside it, against what its suffix says."""

from __future__ import annotations

import re

from forumqa.schema import LoadFailed

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_SAVE = "open it in its program and save it as"
_PACKAGES = {
    b"word/": ".docx",
    b"application/hwp+zip": ".hwpx",
    b"Contents/section": ".hwpx",
    b"xl/": f"an Excel table, which is not read; {_SAVE} PDF",
    b"ppt/": f"a PowerPoint presentation, which is not read; {_SAVE} PDF",
    b"opendocument": f"an OpenDocument file, which is not read; {_SAVE} DOCX",
}
_STORAGES = {
    "EncryptedPackage": "an Office document with a password; save it without one",
    "HwpSummaryInformation": ".hwp",
    "BodyText": ".hwp",
    "WordDocument": f"a Word 97 document, which is not read; {_SAVE} DOCX",
    "Workbook": f"an Excel table, which is not read; {_SAVE} PDF",
    "PowerPoint Document": f"a PowerPoint presentation, which is not read; {_SAVE} PDF",
}
_SOME_OLE = "an OLE file of an unknown program; save it as DOCX, HWPX or PDF"
_PREFIXES = {
    b"HWP Document File V": f"a HWP 3 document of before 2000, which is not read; {_SAVE} HWPX",
    b"{\\rtf": f"an RTF document, which is not read; {_SAVE} DOCX",
    b"\x89PNG": "a picture; delete it, or make a PDF with text of it (OCR)",
    b"\xff\xd8\xff": "a picture; delete it, or make a PDF with text of it (OCR)",
    b"GIF8": "a picture; delete it, or make a PDF with text of it (OCR)",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a rar archive; unpack it",
}
_TEXT = (".txt", ".md", ".markdown", ".html", ".htm")
_HTML = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b",
                   re.IGNORECASE | re.DOTALL)  # fmt: skip


def check(data: bytes, suffix: str) -> None:
    """Raise LoadFailed where the file is plainly of another kind than its suffix says."""
    kind = recognise(data)
    if kind == suffix or (suffix in _TEXT and kind in ("", ".html")):
        return
    if suffix == ".hwp" and kind == _SOME_OLE:
        # Cut short, it has lost the names inside.
        return
    name = suffix.removeprefix(".").upper()
    if kind.startswith("."):
        raise LoadFailed(f"the file is {kind[1:].upper()}, not {name}; rename it to end in {kind}")
    if kind:
        raise LoadFailed(f"the file is {kind}")
    raise LoadFailed(f"the file is no {name} document; check its name, or get it anew")


def recognise(data: bytes) -> str:
    """Return the suffix of the format, or a phrase for one that is not read, or "" if unknown."""
    if data.startswith(b"PK\x03\x04"):
        for name, kind in _PACKAGES.items():
            if name in data:
                return kind
        return "a zip archive; unpack it"
    if data.startswith(_OLE):
        for storage, kind in _STORAGES.items():
            if storage.encode("utf-16-le") in data:
                return kind
        return _SOME_OLE
    # Readers look for the mark in the first kilobyte (ISO 32000-1, implementation note 13).
    if b"%PDF-" in data[:1024]:
        return ".pdf"
    for prefix, kind in _PREFIXES.items():
        if data.startswith(prefix):
            return kind
    return ".html" if _HTML.match(data.removeprefix(b"\xef\xbb\xbf")[:4096]) else ""
