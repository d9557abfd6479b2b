"""Web pages: the article alone, found by trafilatura, with its headings, lists and tables."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from forumqa import text as tx
from forumqa.loaders.blocks import Block, block, compose, rows
from forumqa.loaders.plain import legacy
from forumqa.schema import Document, LoadFailed

_CHARSET = re.compile(rb"""<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""",
                      re.IGNORECASE)  # fmt: skip
# Browsers write where a page was saved from.
_SAVED_FROM = re.compile(r"<!--\s*saved from url=\(\d+\)(\S+)\s*-->")
# Declared by default and whatever the page holds: CP949 is told from CP1252 by the text. EUC-KR pages
# hold syllables of its superset CP949, whatever they declare (WHATWG Encoding, "euc-kr").
_UNRELIABLE = {"utf-8", "utf-16", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252", "cp1252",
               "euc-kr", "euc_kr", "euckr", "ks_c_5601-1987", "ksc5601", "windows-949"}  # fmt: skip
# So large a part of a page may be damaged: old pages cut their teasers in the middle of a syllable.
_MAX_DAMAGED = 0.005
# Lines that Korean and English newspapers put under an article.
_FOOTER = re.compile(
    r"(?:저작권자?\s*[ⓒ©(]|[ⓒ©]|copyrights?\b|\(c\)\s).{0,150}|.{0,80}무단\s?전재.{0,80}"
    r"|.{0,60}all rights reserved.{0,40}|.{2,20}\s?기자\s+[\w.+-]+@[\w.-]+|[\w.+-]+@[\w.-]+"
    r"|(?:관련\s?기사|많이 본 (?:뉴스|기사)|related articles?)",
    re.IGNORECASE,
)


def load(data: bytes, document_id: str) -> Document:
    import lxml.etree
    import lxml.html
    import trafilatura

    page = decode(data)
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_pis=True)
    try:
        tree = lxml.html.document_fromstring(tx.normalize(page).encode(), parser=parser)
    except (lxml.etree.ParserError, lxml.etree.XMLSyntaxError, AssertionError) as error:
        raise LoadFailed("the page holds no text; save it again, or delete it") from error
    _mark_plain_article(tree)
    found = trafilatura.bare_extraction(
        tree,
        with_metadata=True,
        include_comments=False,
        include_formatting=True,
        favor_precision=True,
        # Only a date that the page declares: one found in its text is that of some event.
        date_extraction_params={"original_date": True, "extensive_search": False},
    )
    if found is None or isinstance(found, dict):
        raise LoadFailed("no article was found in the page; save its text as .txt")
    blocks = [b for b in _blocks(found.body) if not _FOOTER.fullmatch(b.text)]
    saved_from = _SAVED_FROM.search(page[:5000])
    return compose(
        blocks,
        document_id,
        title=str(found.title or ""),
        source=_web_address(str(found.url or ""), saved_from[1] if saved_from else ""),
        date=str(found.date or "") if _declares_a_date(page) else "",
    )


def decode(data: bytes) -> str:
    """Return the text of a page: by its byte order mark, as UTF-8, by what it declares, as
    CP949 or CP1252.

    UTF-8 goes before the declaration, for text that is not UTF-8 hardly ever decodes as it, and
    editors that save a page anew leave its old declaration in. Raises LoadFailed.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    declared = _CHARSET.search(data[:4096])
    name = declared[1].decode("ascii", "replace").lower() if declared else ""
    for encoding in ("utf-8", "" if name in _UNRELIABLE else name):
        try:
            text = data.decode(encoding, "replace") if encoding else ""
        except (LookupError, ValueError):
            continue
        bad = text.count("\ufffd")
        if bad <= _MAX_DAMAGED * len(text) and 10 * bad < sum(not ch.isascii() for ch in text):
            return text
    return legacy(data, _MAX_DAMAGED)


def _mark_plain_article(tree: Any) -> None:
    """Put the body of a page without any layout into an article element: else trafilatura, which
    looks for the part of the page that holds the text, keeps nothing but the paragraphs."""
    import lxml.etree

    body = tree.find("body")
    if body is None:
        return
    total = len("".join(body.itertext()))
    own = sum(len("".join(child.itertext())) for child in body if child.tag == "p")
    if own * 2 > total:
        article = lxml.etree.Element("article")
        article.extend(list(body))
        article.text, body.text = body.text, None
        body.append(article)


def _blocks(element: Any) -> Iterator[Block]:
    """Yield the blocks of trafilatura's body, a small dialect of TEI."""
    for child in element:
        if child.tag == "head":
            kind = "title" if child.get("rend") == "h1" else "heading"
            yield block(_text(child), "title" if kind == "title" else "heading")
        elif child.tag == "table":
            yield from rows(_cells(child))
        elif child.tag == "list":
            for item in child.iter("item"):
                yield block(_text(item, "list"), "item")
        elif child.tag == "code":
            yield block(_text(child), "code")
        else:
            # Two line breaks are how many sites part their paragraphs.
            yield from map(block, re.split(r"\n\s*\n", _text(child)))
        if child.tail and child.tail.strip():
            yield block(child.tail)


def _cells(table: Any) -> Iterator[tuple[int, int, int, list[Block]]]:
    for number, row in enumerate(table.iter("row")):
        for column, cell in enumerate(row.iter("cell")):
            yield number, column, 1, [block(_text(cell))]


def _text(element: Any, leave_out: str = "") -> str:
    pieces = [element.text or ""]
    for child in element:
        if child.tag in ("lb", "p"):
            pieces.append("\n")
        if child.tag != leave_out:
            pieces.append(_text(child, leave_out))
        pieces.append(child.tail or "")
    return "".join(pieces)


def _declares_a_date(page: str) -> bool:
    return bool(
        re.search(r"<time\b|datePublished|published|<meta[^>]{0,80}date", page, re.IGNORECASE)
    )


def _web_address(*candidates: str) -> str:
    for address in candidates:
        try:
            parts = urlsplit(address)
        except ValueError:
            continue
        if parts.scheme in ("http", "https") and parts.netloc:
            return address
    return ""
