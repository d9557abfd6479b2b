"""One article, and the files that the tests make of it."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

DATA = Path(__file__).parent / "data"
TITLE = "가람시 산업정책 포럼 개최"
# (kind, text); a row has its cells parted by " | ".
BLOCKS = [
    ("paragraph", "가람시는 7일 오후 2시 문화회관에서 산업정책 포럼을 열었다. 이날 포럼에는 시민과 기업인, "
     "연구자 등 120여 명이 참석해 지역 경제의 앞날을 두고 세 시간 가까이 토론을 이어 갔다. 시장은 "
     "인사말에서 “산업의 터전을 넓히는 일은 한 해에 끝나지 않는다”라고 말했다."),
    ("heading", "발표 내용"),
    ("paragraph", "첫 발표를 맡은 박하늘 연구위원은 자족 기능을 갖추려면 일자리가 먼저라고 강조했다. 그는 "
     "AI와 방송영상 기업이 들어설 땅을 미리 마련해야 한다며 세 가지 방안을 내놓았다. 두 번째 "
     "발표에서는 나루테크노밸리의 진행 상황이 소개됐다."),
    ("item", "교통망을 먼저 놓는다."),
    ("item", "세금을 깎아 준다."),
    ("row", "구분 | 면적 | 준공"),
    ("row", "나루밸리 | 85만 | 2026년"),
    ("paragraph", "The forum was organised by the city together with the Institute of Industrial Policy, "
     "and its proceedings will be published in English before the end of the year."),
    ("heading", "토론"),
    ("paragraph", "토론에서는 공장을 옮기는 비용을 누가 낼 것인지가 가장 큰 쟁점이었다. 상인회는 시가 절반을 "
     "대야 한다고 했고, 시의회는 도의 지원을 받은 다음에 정하자고 맞섰다. 좌장은 가을에 다시 모여 "
     "결론을 내자고 제안하며 자리를 마쳤다."),
    ("paragraph", "시는 다음 달 10일까지 누리집에서 의견을 받는다."),
]  # fmt: skip
TEXT = "\n\n".join(text for _, text in BLOCKS)
HEADINGS = [text for kind, text in BLOCKS if kind == "heading"]


def markdown() -> bytes:
    marks = {"heading": "## ", "item": "- "}
    out = f"# {TITLE}\n\n"
    rows = [text for kind, text in BLOCKS if kind == "row"]
    for kind, text in BLOCKS:
        if kind == "row" and text == rows[0]:
            body = "".join(f"| {row} |\n" for row in rows[1:])
            out += f"| {text} |\n|---|---|---|\n{body}\n"
        elif kind != "row":
            out += f"{marks.get(kind, '')}{text}\n\n"
    return out.encode()


def plain() -> bytes:
    return f"{TITLE}\n\n{TEXT}\n".encode()


def html(charset: str = "utf-8") -> bytes:
    """A newspaper's page: the article among menus, an advertisement, captions and other stories."""
    body = ""
    for kind, text in BLOCKS:
        if kind == "row":
            cells = "".join(f"<td>{cell}</td>" for cell in text.split(" | "))
            body += f"<table><tr>{cells}</tr></table>"
        else:
            tag = {"paragraph": "p", "heading": "h2", "item": "li"}[kind]
            body += f"<{tag}>{text}</{tag}>"
    body = body.replace("</table><table>", "").replace("</p><h2>", f"</p>{_NOISE}<h2>", 1)
    body = body.replace("<li>", "<ul><li>", 1)[::-1].replace(">il/<", ">lu/<>il/<", 1)[::-1]
    page = f"""<!DOCTYPE html><html lang="ko"><head><meta charset="{charset}">
<title>{TITLE} - 가람일보</title><meta property="og:title" content="{TITLE}">
<meta property="article:published_time" content="2018-06-07T09:00:00+09:00">
<link rel="canonical" href="https://news.example.kr/article/1234"></head><body>
<header><nav><ul><li><a href="/">홈</a></li><li><a href="/p">정치</a></li></ul></nav></header>
<div id="wrap"><h1>{TITLE}</h1><p class="byline">김가람 기자 | 승인 2018.06.07 09:00</p>
<div class="article-body" id="article-view-content-div">{body}
<p>저작권자 ⓒ 가람일보 무단전재 및 재배포 금지</p></div>
<div class="related"><h3>관련기사</h3><ul><li><a href="/2">다른 도시의 다리 공사 시작</a></li></ul></div>
<aside><h4>많이 본 뉴스</h4><a href="/4"><span>폭우에 잠긴 도로 사진 설명</span></a></aside></div>
<footer><p>대표 홍길동 Copyright (c) 가람일보 All rights reserved.</p></footer></body></html>"""
    return page.encode("cp949" if charset == "euc-kr" else charset)


_NOISE = (
    '<figure><img src="a.jpg"><figcaption>포럼이 열린 문화회관. 사진=가람일보</figcaption></figure>'
    '<div class="ad">광고 문구: 지금 가입하면 할인</div><script>var 광고 = "스크립트";</script>'
)


def package(members: Mapping[str, bytes | str]) -> bytes:
    """Return a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def hwpx(section: str, **members: bytes) -> bytes:
    """Return a HWPX file of one section, whose XML is given without its root."""
    root = '<hs:sec xmlns:hs="urn:s" xmlns:hp="urn:p">{}</hs:sec>'
    parts = {"mimetype": "application/hwp+zip", "Contents/section0.xml": root.format(section)}
    return package({**parts, **members})


def docx(body: str, **members: bytes) -> bytes:
    """Return a DOCX file whose body's XML is given."""
    root = '<w:document xmlns:w="urn:w"><w:body>{}</w:body></w:document>'
    return package({"word/document.xml": root.format(body), **members})


# --- HWP 5 ----------------------------------------------------------------------------------------

_SECTOR = 512
_END, _FREE, _FAT = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD


def record(tag: int, level: int, data: bytes = b"") -> bytes:
    size = min(len(data), 0xFFF)
    long = struct.pack("<I", len(data)) if size == 0xFFF else b""
    return struct.pack("<I", tag | level << 10 | size << 20) + long + data


def paragraph(text: str, level: int = 0, style: int = 0, below: bytes = b"") -> bytes:
    """Return the records of a paragraph; ``below`` are its controls."""
    head = struct.pack("<IIHBB", len(text) + 1, 0, 0, style, 0) + bytes(10)
    return record(66, level, head) + record(67, level + 1, text.encode("utf-16-le")) + below


def hwp(
    *sections: bytes, flags: int = 1, styles: Sequence[str] = (), deflate: bool = True
) -> bytes:
    """Return a HWP 5 file of these sections (records)."""

    def packed(data: bytes) -> bytes:
        if not deflate:
            return data
        stream = zlib.compressobj(9, zlib.DEFLATED, -15)
        return stream.compress(data) + stream.flush()

    header = b"HWP Document File".ljust(32, b"\0") + struct.pack("<II", 0x05000500, flags)
    names = (struct.pack("<H", len(n)) + n.encode("utf-16-le") for n in styles)
    info = b"".join(record(26, 1, name) for name in names)
    streams = {"FileHeader": header.ljust(256, b"\0"), "DocInfo": packed(info)}
    streams |= {f"BodyText/Section{i}": packed(section) for i, section in enumerate(sections)}
    return ole(streams)


def ole(streams: Mapping[str, bytes]) -> bytes:
    """Return an OLE file (MS-CFB, version 3): streams in the root or in one storage below it.

    Each is padded beyond the 4096 bytes from which on a stream has sectors of its own.
    """
    body = b""
    chains: list[int] = []
    places: dict[str, tuple[int, int]] = {}

    def put(data: bytes) -> int:
        nonlocal body
        first = len(body) // _SECTOR
        body += data.ljust(-(-len(data) // _SECTOR) * _SECTOR, b"\0")
        last = len(body) // _SECTOR
        chains.extend([*range(first + 1, last), _END])
        return first

    for name, data in streams.items():
        size = max(len(data), 4096)
        places[name] = (put(data.ljust(size, b"\0")), size)
    folders = sorted({name.split("/")[0] for name in streams if "/" in name})
    entries = ["", *folders, *streams]
    table = b""
    for i, name in enumerate(entries):
        leaf = name.rpartition("/")[2] or "Root Entry"
        inside = name.rpartition("/")[0]
        siblings = [j for j in range(1, len(entries)) if entries[j].rpartition("/")[0] == inside]
        after = [j for j in siblings if j > i]
        right = after[0] if i and after else _FREE
        below = [j for j in range(1, len(entries)) if entries[j].rpartition("/")[0] == name]
        child = below[0] if below and (i == 0 or name in folders) else _FREE
        kind = 5 if i == 0 else 1 if name in folders else 2
        first, size = places.get(name, (_END if i == 0 else 0, 0))
        label = leaf.encode("utf-16-le") + b"\0\0"
        links = struct.pack("<HBBIII", len(label), kind, 1, _FREE, right, child)
        table += label.ljust(64, b"\0") + links + bytes(36) + struct.pack("<III", first, size, 0)
    directory = put(table.ljust(-(-len(table) // 512) * 512, b"\0"))
    count = 1
    while (len(chains) + count) * 4 > count * _SECTOR:
        count += 1
    first = len(chains)
    fat = struct.pack(f"<{first}I", *chains) + struct.pack("<I", _FAT) * count
    body += fat.ljust(count * _SECTOR, b"\xff")
    difat = [*range(first, first + count), *[_FREE] * (109 - count)]
    head = struct.pack(
        "<8s16sHHHHH6x9I", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"", 0x3E, 3, 0xFFFE, 9, 6,
        0, count, directory, 0, 4096, _END, 0, _END, 0,
    )  # fmt: skip
    return head + struct.pack("<109I", *difat) + body


def pdf(*pages: Sequence[tuple[int, int, str]], size: int = 10) -> bytes:
    """Return a PDF of these pages: (left, bottom, text) of each line, in Helvetica."""
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    kids = []
    for lines in pages:
        shown = "".join(f"BT /F {size} Tf {x} {y} Td ({text}) Tj ET\n" for x, y, text in lines)
        objects.append(f"<</Length {len(shown)}>>stream\n{shown}endstream\n")
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 400]/Contents {len(objects)} 0 R"
            "/Resources<</Font<</F 3 0 R>>>>>>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<</Type/Pages/Kids[{' '.join(kids)}]/Count {len(kids)}>>"
    body = "".join(f"{i} 0 obj{text}endobj\n" for i, text in enumerate(objects, 1))
    return f"%PDF-1.4\n{body}trailer<</Root 1 0 R>>\n".encode("latin-1")
