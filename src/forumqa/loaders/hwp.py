"""HWP 5, the format of Hangul until 2014 and still its usual one: an OLE file of records.

After "한글 문서 파일 형식 5.0" (Hancom, revision 1.3). pyhwp is AGPL; hwp-hwpx-parser drops a
damaged record without a word, mixes page headers into the text, and bounds nothing.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from forumqa.loaders.blocks import Block, compose, rows, styled
from forumqa.schema import Document, LoadFailed

MAX_UNPACKED = 96 * 1024 * 1024
MAX_DEPTH = 100

# Tags of records; HWPTAG_BEGIN is 16.
_STYLE = 26
_PARA_HEADER, _PARA_TEXT, _CTRL_HEADER, _LIST_HEADER, _TABLE = 66, 67, 71, 72, 77
# Controls whose paragraphs are read: tables, drawings with text, footnotes and endnotes. Headers,
# footers, hidden comments and master pages are not.
_SHOWN = {b"gso ", b"fn  ", b"en  "}
# Keys and types of the properties that are read.
_TITLE, _CREATED, _STRING, _TIME = 2, 12, 0x1F, 0x40
# These characters take one place in the text; every other below 32 takes eight.
_SINGLE = {0: "", 10: "\n", 13: "", 24: "-", 30: " ", 31: " "} | dict.fromkeys(range(25, 30), "")
_TAB = 9


@dataclass(slots=True)
class _Record:
    tag: int
    data: bytes
    below: list[_Record] = field(default_factory=list)


def load(data: bytes, document_id: str) -> Document:
    import olefile

    # Sectors of 2**9 or 2**12 bytes (MS-CFB 2.2); olefile computes with whatever stands there.
    if data[30:34] not in (b"\x09\x00\x06\x00", b"\x0c\x00\x06\x00"):
        raise _damaged()
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as ole:
            return _read(ole, document_id)
    except (OSError, struct.error, zlib.error) as error:
        raise _damaged() from error


def _read(ole: Any, document_id: str) -> Document:
    header = ole.openstream("FileHeader").read(256)
    if not header.startswith(b"HWP Document File") or len(header) < 40:
        raise LoadFailed("the file holds no HWP document; check its name and format")
    _, flags = struct.unpack_from("<II", header, 32)
    if flags & 0b10:
        raise LoadFailed("the HWP file is protected by a password; save it without one")
    if flags & 0b100:
        raise LoadFailed(
            "the HWP file is locked for distribution (배포용 문서); ask its author for the ordinary "
            "file, or print it to PDF"
        )
    if flags & 0b10001_0000 or flags & 0x400:
        raise LoadFailed("the HWP file is encrypted by a rights system; save it without protection")
    names = ["/".join(path) for path in ole.listdir()]
    found = [match for name in names if (match := re.fullmatch(r"BodyText/Section(\d{1,6})", name))]
    if not found:
        raise _damaged()
    left = MAX_UNPACKED
    styles: list[str] = []
    blocks: list[Block] = []
    parts = sorted(found, key=lambda match: int(match[1]))
    for name in ["DocInfo", *(match[0] for match in parts)]:
        stream = ole.openstream(name).read()
        content = _inflate(stream, left) if flags & 1 else stream
        left -= len(content)
        root = _tree(content)
        if name == "DocInfo":
            styles = [_style_name(r.data) for r in _all(root) if r.tag == _STYLE]
        else:
            blocks.extend(_paragraphs(root.below, styles))
    title, date = _properties(ole)
    return compose(blocks, document_id, file_property=title, date=date)


def _damaged() -> LoadFailed:
    return LoadFailed(
        "the HWP file is damaged or cut short; get it anew, or open it in Hangul and save it again"
    )


def _inflate(data: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    content = stream.decompress(data, limit + 1)
    if len(content) > limit:
        raise LoadFailed(
            f"the file unpacks to over {MAX_UNPACKED // 2**20} MiB; split the document"
        )
    if not stream.eof:
        raise _damaged()
    return content


def _tree(data: bytes) -> _Record:
    """Return the records of a stream, each below the last one of a lower level."""
    root = _Record(-1, b"")
    path = [root]
    at = 0
    while at + 4 <= len(data):
        (head,) = struct.unpack_from("<I", data, at)
        tag, level, size = head & 0x3FF, head >> 10 & 0x3FF, head >> 20
        at += 4
        if size == 0xFFF:
            (size,) = struct.unpack_from("<I", data, at)
            at += 4
        if at + size > len(data) or level > MAX_DEPTH:
            raise _damaged()
        record = _Record(tag, data[at : at + size])
        del path[level + 1 :]
        path[-1].below.append(record)
        path.append(record)
        at += size
    return root


def _all(record: _Record) -> Iterator[_Record]:
    for below in record.below:
        yield below
        yield from _all(below)


def _style_name(data: bytes) -> str:
    (length,) = struct.unpack_from("<H", data)
    return data[2 : 2 + 2 * length].decode("utf-16-le", "ignore")


def _paragraphs(records: list[_Record], styles: list[str]) -> Iterator[Block]:
    """Yield the blocks of all paragraphs among these records and below."""
    for record in records:
        if record.tag == _PARA_HEADER:
            style = record.data[10] if len(record.data) > 10 else 0
            text = "".join(_text(r.data) for r in record.below if r.tag == _PARA_TEXT)
            yield styled(text, styles[style] if style < len(styles) else "")
            for control in record.below:
                if control.tag == _CTRL_HEADER:
                    yield from _control(control, styles)
        elif record.tag != _CTRL_HEADER:
            yield from _paragraphs(record.below, styles)
        elif record.data[3::-1] in (*_SHOWN, b"tbl "):
            yield from _control(record, styles)


def _control(control: _Record, styles: list[str]) -> Iterator[Block]:
    name = control.data[3::-1]
    if name in _SHOWN:
        yield from _paragraphs(control.below, styles)
    elif name == b"tbl ":
        tags = [record.tag for record in control.below]
        start = tags.index(_TABLE) if _TABLE in tags else 0
        yield from _paragraphs(control.below[:start], styles)  # the caption
        yield from rows(_cells(control.below[start:], styles))


def _cells(
    records: list[_Record], styles: list[str]
) -> Iterator[tuple[int, int, int, list[Block]]]:
    """A cell is a list header and the paragraphs that follow it."""
    starts = [i for i, record in enumerate(records) if record.tag == _LIST_HEADER]
    for start, end in zip(starts, [*starts[1:], len(records)], strict=True):
        if len(records[start].data) < 16:
            raise _damaged()
        column, row, _, span = struct.unpack_from("<4H", records[start].data, 8)
        content = [b for b in _paragraphs(records[start:end], styles) if b.text]
        yield row, column, span, content


def _text(data: bytes) -> str:
    units = struct.unpack_from(f"<{len(data) // 2}H", data)
    out: list[int] = []
    at = 0
    while at < len(units):
        unit = units[at]
        if unit >= 32:
            out.append(unit)
        elif unit in _SINGLE:
            out.extend(map(ord, _SINGLE[unit]))
        elif unit == _TAB:
            out.append(32)
        at += 1 if unit >= 32 or unit in _SINGLE else 8
    return struct.pack(f"<{len(out)}H", *out).decode("utf-16-le", "ignore")


def _properties(ole: Any) -> tuple[str, str]:
    """Return the title and the day of creation among the file's properties, "" where none.

    A property set (MS-OLEPS 2.21) of which two values are read: olefile reads all, and can be kept
    busy for hours by the length that a damaged one claims.
    """
    name = "\x05HwpSummaryInformation"
    if not ole.exists(name):
        return "", ""
    data = ole.openstream(name).read()
    title, date = "", ""
    try:
        (start,) = struct.unpack_from("<I", data, 44)
        (count,) = struct.unpack_from("<I", data, start + 4)
        for i in range(min(count, 64)):
            key, offset = struct.unpack_from("<II", data, start + 8 + 8 * i)
            kind, value = struct.unpack_from("<IQ", data, start + offset)
            if key == _TITLE and kind == _STRING:
                text = data[start + offset + 8 :][: 2 * (value & 0xFFFFFFFF)]
                title = text.decode("utf-16-le", "ignore").partition("\0")[0]
            elif key == _CREATED and kind == _TIME and value:
                day = datetime(1601, 1, 1) + timedelta(microseconds=value // 10)
                date = day.date().isoformat()
    except (struct.error, OverflowError):
        return title, date
    return title, date
