"""HTML for answers, sources and the page's frame: pure functions. Here and in `material`, and
nowhere else, text of a document becomes markup.

The chat renders what these functions return and no Markdown at all. Escaping for HTML is one
well-known rule; escaping for Markdown is a dozen that depend on the neighbourhood, and a copy of
the quote would carry their backslashes. Fragments hold no line breaks, since the chat shows those.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from urllib.parse import quote, urlsplit

from forumqa.schema import Answer, Citation, Document, Hit, Message
from forumqa.text import language_of

from .labels import say

Span = tuple[int, int]
_NONE: Mapping[str, Document] = {}

_MARKER = re.compile(r"\s*\[(\d{1,3})\]")
_TAG = re.compile(r"<[^>]*>")
_BREAK = re.compile(r"</p>\s*(?=<p)|<br>")
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")
_MARKUP_START = re.compile(r"<(?=[A-Za-z/!?])|&#?\w+;?")
_MORE = '<div class="fqa-more">'
_SNIPPET = 150


def escape(text: str) -> str:
    """Return text as HTML that shows it, on one line."""
    return " ".join(html.escape(text).split())


# What a person typed ----------------------------------------------------------------------------


def shown_question(question: str) -> str:
    """Return the question so that the chat shows it as typed.

    Only what could begin a tag or an entity is escaped: the chat's edit box shows this very string,
    and "R&D" should read "R&D" there.
    """

    def shown(found: re.Match[str]) -> str:
        means_itself = found[0] != "<" and html.unescape(found[0]) == found[0]
        return found[0] if means_itself else html.escape(found[0])

    return _MARKUP_START.sub(shown, question)


def typed_question(shown: str) -> str:
    """Undo `shown_question`, after a person may have edited it."""
    return html.unescape(shown)


# Answers ----------------------------------------------------------------------------------------


def source_link(document_id: str, start: int, end: int) -> str:
    """Return the address by which the page's script knows a span of a document."""
    return f"#s/{start}-{end}/{quote(document_id, safe='')}"


def answer_html(
    answer: Answer, growing: bool = False, documents: Mapping[str, Document] = _NONE
) -> str:
    """Return an answer with a link at each of its markers, and below it, once it is complete, its
    sources or the nearest passages. ``documents`` are those that are cited and their near copies.

    A marker that no citation stands behind stays plain text: it may be part of a quote.
    """
    citations = {citation.number: citation for citation in answer.citations}
    paragraphs = []
    for paragraph in _BLANK_LINE.split(answer.text.strip()):
        line, at = "", 0
        for marker in _MARKER.finditer(paragraph):
            citation = citations.get(int(marker[1]))
            if citation is None:
                continue
            # The space that ties the number to its quote does not break, so that no line begins
            # with a number.
            line += f"{_lines(paragraph[at : marker.start()])}&nbsp;{_cite(citation)}"
            at = marker.end()
            if answer.kind == "extractive":  # one quote, one paragraph
                paragraphs.append(line)
                line = ""
        paragraphs.append(line + _lines(paragraph[at:]))
    text = "".join(f"<p>{paragraph.strip()}</p>" for paragraph in paragraphs if paragraph.strip())
    body = f'<div class="fqa-answer fqa-{answer.kind}">{text}</div>'
    if growing:
        return body
    language = language_of(answer.question)
    if answer.kind == "abstained":
        return body + _nearest(answer.hits, language)
    return body + _sources(answer.citations, documents, language)


def problem_html(sentence: str) -> str:
    """Return what went wrong, as one sentence in place of an answer."""
    return f'<div class="fqa-answer fqa-problem" role="alert"><p>{escape(sentence)}</p></div>'


def stopped_html(fragment: str, language: str) -> str:
    """Return a part of an answer, marked as stopped by the reader."""
    said = fragment.partition(_MORE)[0]
    return f'{said}{_MORE}<p class="fqa-label">{escape(say(language, "stopped"))}</p></div>'


def plain_text(fragment: str) -> str:
    """Return what an answer said, without links, sources and nearest passages.

    >>> plain_text('<div class="fqa-answer"><p>A &amp; B <a href="#s/0-1/x">[1]</a></p></div>')
    'A & B [1]'
    """
    said = _BREAK.sub("\n", fragment.partition(_MORE)[0])
    return html.unescape(_TAG.sub("", said)).replace("\xa0", " ").strip()


def history(messages: Iterable[Mapping[str, object]]) -> list[Message]:
    """Return the chat's messages as the plain earlier turns that the engine takes."""
    turns: list[Message] = []
    for message in messages:
        text = content_text(message.get("content"))
        if message.get("role") == "user":
            turns.append({"role": "user", "content": typed_question(text)})
        elif message.get("role") == "assistant" and "fqa-problem" not in text[:60]:
            turns.append({"role": "assistant", "content": plain_text(text)})
    return [turn for turn in turns if turn["content"]]


def content_text(content: object) -> str:
    """Return the text of one message; Gradio hands it back as a list of blocks."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(content_text(block) for block in content)
    if isinstance(content, dict):
        return str(content.get("text", ""))
    return ""


def _lines(text: str) -> str:
    return "<br>".join(html.escape(line) for line in text.splitlines())


def _cite(citation: Citation) -> str:
    link = source_link(citation.document_id, citation.start, citation.end)
    return (
        f'<a class="fqa-cite" href="{html.escape(link)}" title="{escape(citation.title)}">'
        f"[{citation.number}]</a>"
    )


def _sources(
    citations: Sequence[Citation], documents: Mapping[str, Document], language: str
) -> str:
    if not citations:
        return ""
    by_document: dict[str, list[Citation]] = {}
    for citation in citations:
        by_document.setdefault(citation.document_id, []).append(citation)
    items = []
    for document_id, cited in by_document.items():
        date = documents[document_id].date if document_id in documents else ""
        pages = _pages((citation.page for citation in cited), language)
        place = " · ".join(filter(None, (cited[0].title, date, pages)))
        links = "".join(_cite(citation) for citation in cited)
        also = also_html({name: documents.get(name) for name in cited[0].also}, language)
        items.append(f"<li>{links} <span>{escape(place)}{also}</span></li>")
    label = escape(say(language, "sources"))
    return f'{_MORE}<p class="fqa-label">{label}</p><ul>{"".join(items)}</ul></div>'


def also_html(copies: Mapping[str, Document | None], language: str) -> str:
    """Return links to the near copies of a document, each by the name of who published it."""
    links = (
        f'<a class="fqa-copy" href="{html.escape(source_link(name, 0, 0))}">'
        f"{escape(outlet(document) if document else name)}</a>"
        for name, document in copies.items()
    )
    said = escape(say(language, "also"))
    return f' <span class="fqa-also">{said} {", ".join(links)}</span>' if copies else ""


def outlet(document: Document) -> str:
    """Return who published a document: the host of its address, or what it names as its source, or
    else its file's name.

    >>> outlet(Document("a/b.md", "", "", "https://www.example.kr/news/1"))
    'example.kr'
    """
    address = web_address(document.source)
    if address:
        return address.removeprefix("www.")
    return document.source or document.id.rpartition("/")[2]


def _pages(pages: Iterable[int | None], language: str) -> str:
    known = sorted({page for page in pages if page})
    return say(language, "page", page=", ".join(map(str, known))) if known else ""


def _nearest(hits: Sequence[Hit], language: str) -> str:
    if not hits:
        return ""
    items = []
    for hit in hits[:3]:
        passage = hit.passage
        link = source_link(passage.document_id, passage.start, passage.end)
        snippet = " ".join(passage.text.split())
        if len(snippet) > _SNIPPET:
            snippet = snippet[:_SNIPPET].rstrip() + "…"
        place = " › ".join(filter(None, (hit.title, passage.heading)))
        place = " · ".join(filter(None, (place, _pages([passage.page], language))))
        items.append(
            f'<li><a class="fqa-near" href="{html.escape(link)}"><b>{escape(place)}</b>'
            f"<span>{escape(snippet)}</span></a></li>"
        )
    label = escape(say(language, "nearest"))
    return f'{_MORE}<p class="fqa-label">{label}</p><ul>{"".join(items)}</ul></div>'


# The source panel -------------------------------------------------------------------------------


def panel_html(
    document: Document | None,
    spans: Sequence[Span],
    current: Span | None,
    language: str,
    copies: Sequence[Document] = (),
) -> str:
    """Return a whole document with the cited spans marked; the current one takes the focus."""
    head = (
        '<div class="fqa-source-bar">'
        f'<button type="button" class="fqa-button" data-fqa="back">'
        f'<span aria-hidden="true">←</span> {escape(say(language, "back"))}</button></div>'
    )
    if document is None:
        sentence = escape(say(language, "removed"))
        return f'{head}<p class="fqa-removed" tabindex="-1" data-fqa="target">{sentence}</p>'
    facts = [
        _source("" if document.source == document.id else document.source),
        escape(document.date),
        escape(_pages((document.page_at(start) for start, end in spans if start < end), language)),
        escape(say(language, "cited", count=len(spans))) if len(spans) > 1 else "",
        f'<a href="original?id={quote(document.id, safe="")}" target="_blank" rel="noopener">'
        f"{escape(say(language, 'original'))}</a>",
    ]
    also = also_html({copy.id: copy for copy in copies}, language)
    tongue = document.language or language_of(document.text)
    return (
        f'{head}<article lang="{html.escape(tongue)}"><h2>{escape(document.title)}</h2>'
        f'<p class="fqa-facts" lang="{language}">{" · ".join(filter(None, facts))}{also}</p>'
        f"{_body(document, spans, current, language)}</article>"
    )


def web_address(source: str) -> str:
    """Return the host of a source that is an http or https address, else ""."""
    try:
        address = urlsplit(source)
        host = address.hostname or ""
    except ValueError:
        return ""
    return host if address.scheme in ("http", "https") and address.netloc else ""


def _source(source: str) -> str:
    """Return where a document comes from; only web addresses become links."""
    if not web_address(source):
        return escape(source)
    return (
        f'<a href="{html.escape(source)}" target="_blank" rel="noopener noreferrer nofollow">'
        f"{escape(source)}</a>"
    )


def paragraph_spans(text: str) -> list[Span]:
    """Return where the paragraphs are: parted by blank lines, or by every line if none is blank."""
    separator = _BLANK_LINE if _BLANK_LINE.search(text.strip()) else re.compile(r"\n\s*")
    spans, at = [], 0
    for gap in separator.finditer(text):
        spans.append((at, gap.start()))
        at = gap.end()
    spans.append((at, len(text)))
    return [(start, end) for start, end in spans if text[start:end].strip()]


def _body(document: Document, spans: Sequence[Span], current: Span | None, language: str) -> str:
    headings = [(section.start, section.heading) for section in document.sections]
    titles = {heading for _, heading in headings} | {document.title}
    pages = [(offset, number) for number, offset in enumerate(document.pages, 1)]
    parts: list[str] = []
    for start, end in paragraph_spans(document.text):
        # A page that begins within a paragraph is marked there.
        within = {}
        while pages and pages[0][0] < end:
            offset, number = pages.pop(0)
            mark = f'<span class="fqa-page">{escape(say(language, "page", page=number))}</span>'
            if offset <= start:
                parts.append(f'<p class="fqa-page-break">{mark}</p>')
            else:
                within[offset] = mark
        plain = document.text[start:end].strip().lstrip("#").strip()
        if plain == document.title and not any(part.startswith(("<h3", "<p>")) for part in parts):
            continue  # the panel's own heading says it already
        if plain in titles:
            parts.append(f"<h3>{escape(plain)}</h3>")
            continue
        while headings and headings[0][0] < end:
            heading = headings.pop(0)[1]
            # A loader may keep a heading as a line of the text or only beside it.
            if heading and heading != document.title and f"<h3>{escape(heading)}</h3>" not in parts:
                parts.append(f"<h3>{escape(heading)}</h3>")
        parts.append(f"<p>{_marked(document.text, start, end, spans, current, within)}</p>")
    return "".join(parts)


def _marked(
    text: str,
    start: int,
    end: int,
    spans: Sequence[Span],
    current: Span | None,
    inserted: Mapping[int, str],
) -> str:
    """Return text[start:end] with the spans in <mark>, and markup inserted at offsets; overlapping
    spans share their borders."""
    cuts = {start, end, *inserted}
    for span in spans:
        cuts |= {min(max(offset, start), end) for offset in span}
    borders = sorted(cuts)
    parts = []
    for left, right in pairwise(borders):
        parts.append(inserted.get(left, ""))
        covering = [span for span in spans if span[0] <= left and right <= span[1]]
        piece = html.escape(text[left:right])
        if not covering or not piece.strip():
            parts.append(piece)
        elif current in covering:
            parts.append(
                f'<mark class="fqa-current" tabindex="-1" data-fqa="target">{piece}</mark>'
            )
        else:
            parts.append(f"<mark>{piece}</mark>")
    return "".join(parts)


# The frame --------------------------------------------------------------------------------------


def head_html(
    language: str, documents: int | None, problem: str = "", generator: str | None = None
) -> str:
    """Return the page's head: what this is, how much material it holds, the two switches."""
    if problem:
        status = f'<span class="fqa-status fqa-problem">{escape(problem)}</span>'
    else:
        words = {None: "opening", 1: "document"}.get(documents, "documents")
        status = f'<span class="fqa-status">{escape(say(language, words, count=documents))}</span>'
    tongues = "".join(
        f'<button type="button" lang="{code}" data-fqa="language" data-value="{code}" '
        f'aria-pressed="{str(code == language).lower()}">{name}</button>'
        for code, name in (("ko", "한국어"), ("en", "English"))
    )
    theme, switch = escape(say(language, "theme")), escape(say(language, "switch"))
    notice = ""
    if generator:
        leaves = escape(say(language, "leaves", name=generator))
        notice = f'<p class="fqa-notice" role="note">{leaves}</p>'
    return (
        "<header><h1>forumqa</h1>"
        f'<div class="fqa-switches"><div role="group" aria-label="{switch}">'
        f'{tongues}</div><button type="button" data-fqa="theme" title="{theme}" '
        f'aria-label="{theme}"><span aria-hidden="true">◐</span></button></div>'
        f"<p>{escape(say(language, 'tagline'))} {status}</p></header>{notice}"
    )


def greeting_html(language: str) -> str:
    """Return what an empty chat shows above the starter questions."""
    return (
        f'<div class="fqa-greeting"><h2>{escape(say(language, "greeting"))}</h2>'
        f"<p>{escape(say(language, 'greeting_more'))}</p></div>"
    )
