"""The page: its HTML without a browser, its server without a page, and the page in Chromium."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forumqa.engine import ForumQA
from forumqa.schema import (
    AddReport,
    Answer,
    BuildReport,
    Citation,
    Document,
    Entry,
    Hit,
    IndexMissing,
    LoadFailed,
    Message,
    Passage,
    Progress,
    Section,
)
from forumqa.webui import adding, fragments, labels, material
from tests.article import DATA

# Gradio's own: its statistics set a pandas option that pandas 3 warns of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

PAYLOAD = (
    "<script>window.hacked=1</script><img src=http://evil.example/x.png onerror=window.hacked=1>"
    "<svg onload=window.hacked=1> ![그림](http://evil.example/y.png) ${window.hacked=1} {{7*7}}"
)


# --- fragments --------------------------------------------------------------------------------


def cited(number: int, quote: str, document_id: str = "a.md", **values: Any) -> Citation:
    known = {"title": "글 하나", "source": "", "start": 0, "end": len(quote), "page": None} | values
    return Citation(number, f"{document_id}#0", document_id, quote=quote, **known)


def answer(text: str, *citations: Citation, kind: Any = "extractive", **values: Any) -> Answer:
    return Answer("무엇인가요?", text, kind, 0.9, citations, **values)


def test_every_quote_is_followed_by_its_link() -> None:
    first, second = cited(1, "첫 문장.", start=10, end=15), cited(2, "둘째 문장.", "b c/글.md")
    shown = fragments.answer_html(answer("첫 문장. [1]\n\n둘째 문장. [2]", first, second))
    assert re.search(r"첫 문장\.&nbsp;<a [^>]*href=\"#s/10-15/a\.md\"[^>]*>\[1\]</a></p><p>", shown)
    assert "#s/0-6/b%20c%2F%EA%B8%80.md" in shown
    assert "\n" not in shown


def test_a_marker_without_a_citation_is_text() -> None:
    shown = fragments.answer_html(answer("표 [3]에 있다. [1]", cited(1, "표 [3]에 있다.")))
    assert "표 [3]에 있다." in shown
    assert shown.count("[1]</a>") == 2  # at the quote and in the list of sources


def test_sources_come_with_the_complete_answer_only() -> None:
    whole = answer("문장. [1]", cited(1, "문장.", page=4))
    assert "fqa-more" not in fragments.answer_html(whole, growing=True)
    assert "글 하나 · 4쪽" in fragments.answer_html(whole)


class Markup(HTMLParser):
    """What a browser would find in a fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += " ".join(value or "" for name, value in attrs if name in ("href", "src"))


def test_document_text_and_titles_are_escaped() -> None:
    citation = cited(1, PAYLOAD, title=PAYLOAD, document_id='"><script>.md')
    passage = Passage("p", '"><b>.md', PAYLOAD, 0, len(PAYLOAD), heading=PAYLOAD)
    document = Document("x.md", PAYLOAD, PAYLOAD, PAYLOAD, PAYLOAD, '"><b>', (Section(0, PAYLOAD),))
    entry = Entry("x.md", PAYLOAD, PAYLOAD, PAYLOAD, 1, "failed", reason=PAYLOAD)
    report = BuildReport(1, (PAYLOAD,), (), (), (), {PAYLOAD: PAYLOAD}, {PAYLOAD: "x"}, 1, 1, 0.1)
    for shown in (
        fragments.answer_html(answer(f"{PAYLOAD} [1]", citation)),
        fragments.answer_html(answer("?", kind="abstained", hits=(Hit(passage, 1.0, PAYLOAD),))),
        fragments.problem_html(PAYLOAD),
        fragments.panel_html(document, [(3, 9)], (3, 9), "ko"),
        material.report_html(report, "en"),
        material.listing_html("en", {}, [entry], [document], True),
        fragments.head_html("en", 3, PAYLOAD, PAYLOAD),
    ):
        found = Markup()
        found.feed(shown)
        assert not found.tags & {"script", "img", "svg"}
        assert not {name for name in found.attributes if name.startswith("on")}
        assert "javascript:" not in found.links


@pytest.mark.parametrize(
    ("source", "is_link"),
    [
        ("https://example.org/a?b=1&c=2", True),
        ("http://example.org", True),
        ("javascript:alert(1)", False),
        (" javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("https:", False),
        ("//example.org", False),
        ("http://[bad", False),
        ("고양신문", False),
    ],
)
def test_only_web_addresses_are_linked(source: str, is_link: bool) -> None:
    shown = fragments.panel_html(Document("a", "t", "본문", source), [], None, "ko")
    assert ('<a href="http' in shown) is is_link
    assert shown.count("<a ") == 1 + is_link  # the file itself
    assert html.escape(source.strip()) in shown


def test_abstaining_looks_different_and_offers_passages_as_such() -> None:
    passage = Passage("p", "a.md", "가까운 대목 " * 40, 5, 300, heading="머리")
    shown = fragments.answer_html(answer("없음", kind="abstained", hits=(Hit(passage, 1.0, "글"),)))
    assert 'class="fqa-answer fqa-abstained"' in shown
    assert "답은 아닙니다" in shown and "글 › 머리" in shown and "#s/5-300/a.md" in shown
    assert "…</span>" in shown


def test_history_is_what_was_said_and_no_more() -> None:
    given_answer = answer("R&D는 <중요>하다. [1]\n\n다음. [2]", cited(1, "x"), cited(2, "y"))
    turns = fragments.history(
        [
            {"role": "user", "content": [{"type": "text", "text": "a &lt;b> R&D?"}]},
            {"role": "assistant", "content": fragments.answer_html(given_answer)},
            {"role": "assistant", "content": fragments.problem_html("색인이 없습니다.")},
            {"role": "user", "content": ""},
        ]
    )
    assert turns == [
        {"role": "user", "content": "a <b> R&D?"},
        {"role": "assistant", "content": "R&D는 <중요>하다. [1]\n다음. [2]"},
    ]


@given(st.text(alphabet="ab<>&;#/!? 가\nlt", max_size=40))
def test_a_question_survives_being_shown(question: str) -> None:
    shown = fragments.shown_question(question)
    assert fragments.typed_question(shown) == html.unescape(shown) == question
    assert not re.search(r"<[A-Za-z/!?]", shown)


def test_an_ampersand_stays_as_it_was_typed() -> None:
    assert fragments.shown_question("R&D와 2 < 3") == "R&D와 2 < 3"


def test_the_cited_sentences_are_marked_and_one_is_current() -> None:
    text = "첫 문장. 둘째 문장. 셋째.\n\n새 문단이다."
    spans = [(6, 12), (0, 5)]
    shown = fragments.panel_html(Document("a", "제목", text), spans, (6, 12), "ko")
    assert re.findall(r"<mark[^>]*>(.*?)</mark>", shown) == ["첫 문장.", "둘째 문장."]
    assert re.findall(r"<mark class=\"fqa-current\"[^>]*>(.*?)</mark>", shown) == ["둘째 문장."]
    assert "<p>새 문단이다.</p>" in shown and "인용한 문장 2곳" in shown


def test_headings_are_shown_once_whether_or_not_the_text_holds_them() -> None:
    inside = Document("a", "제목", "개회\n\n본문 하나.", sections=(Section(0, "개회"),))
    beside = Document("a", "제목", "본문 하나.", sections=(Section(0, "개회"),))
    for document in (inside, beside):
        shown = fragments.panel_html(document, [], None, "ko")
        assert shown.count("개회") == 1 and "<h3>개회</h3><p>본문 하나.</p>" in shown


def test_the_page_is_the_one_on_which_the_quote_begins() -> None:
    document = Document("a", "t", "x" * 90, pages=(0, 50))
    assert "p. 2" in fragments.panel_html(document, [(60, 70)], (60, 70), "en")


def test_a_removed_document_says_so() -> None:
    assert "더 이상 자료에 없습니다" in fragments.panel_html(None, [(0, 3)], (0, 3), "ko")


words = st.text(alphabet="가나 .\n<&", max_size=60)
spans = st.lists(st.tuples(st.integers(-3, 70), st.integers(-3, 70)), max_size=4)


@given(words, spans)
def test_marking_neither_loses_nor_adds_text(text: str, marked: list[tuple[int, int]]) -> None:
    current = marked[0] if marked else None
    shown = fragments.panel_html(Document("a", "", text), marked, current, "en")
    body = shown.partition("</p>")[2].removesuffix("</article>")
    assert "".join(html.unescape(re.sub("<[^>]*>", "", body)).split()) == "".join(text.split())
    lit = {
        i for start, end in marked if start < end for i in range(max(start, 0), min(end, len(text)))
    }
    expected = "".join(text[i] for i in sorted(lit) if not text[i].isspace())
    found = "".join(re.findall(r"<mark[^>]*>(.*?)</mark>", body, re.S))
    assert "".join(html.unescape(found).split()) == expected


def test_both_languages_say_everything() -> None:
    korean, english = labels.WORDS["ko"], labels.WORDS["en"]
    assert korean.keys() == english.keys()
    fields = re.compile(r"\{\w+\}")
    for key in korean:
        assert set(fields.findall(korean[key])) == set(fields.findall(english[key])), key


@pytest.mark.parametrize(
    ("cookies", "accept", "language"),
    [
        ({}, "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ({}, "en-US,en;q=0.9,ko;q=0.8", "en"),
        ({}, "ja,ko;q=0.5", "ko"),
        ({}, "fr", "en"),
        ({}, "", "en"),
        ({}, "ko;q=oops", "en"),
        ({"forumqa_lang": "en"}, "ko", "en"),
        ({"forumqa_lang": "<script>"}, "ko", "ko"),
    ],
)
def test_the_language_is_the_readers_then_the_browsers(
    cookies: dict[str, str], accept: str, language: str
) -> None:
    assert labels.chosen(cookies, accept) == language


def test_a_report_names_what_was_not_read() -> None:
    report = BuildReport(
        3, ("a.md",), (), ("b.md",), ("c.md",), {"d.md": "no text"}, {}, 9, 2, 1.25
    )
    shown = material.report_html(report, "en")
    assert "<li>a.md</li>" in shown and "<li>b.md</li>" in shown and "d.md: no text" in shown
    assert "Changed" not in shown and "1.2 s" in shown


def test_a_report_of_what_was_added_names_each_file_once() -> None:
    build = BuildReport(3, ("new.txt",), ("page.md",), (), ("c",), {"bad.pdf": "x"}, {}, 9, 2, 1.0)
    failed = {"b.hwp": "the file is empty", "http://a": "http://a is private."}
    report = AddReport(("new.txt",), ("page.md",), ("same.txt",), failed, build)
    shown = material.added_html(report, "en")
    listed = re.findall(r"<dt>([^<]*)</dt><dd>(\d+)", shown)
    assert listed == [
        ("Added", "1"),
        ("Replaced", "1"),
        ("Already there", "1"),
        ("Unchanged", "1"),
        ("Not read", "3"),
    ]
    assert "<li>b.hwp: the file is empty</li><li>http://a is private.</li>" in shown
    shown = material.added_html(replace(report, build=None), "ko", "다른 곳에서 만드는 중입니다.")
    assert "색인에는 아직 없습니다. 다른 곳에서" in shown and "<li>new.txt</li>" in shown


def test_the_material_section_says_what_is_wrong_and_groups_copies() -> None:
    entries = [
        Entry("a.md", "첫 글", "2024-01-01", "", 3, "ok"),
        Entry("b.md", "베낀 글", "", "https://www.b.kr/1", 0, "duplicate", duplicate_of="a.md"),
        Entry("z.pdf", "", "", "", 0, "failed", reason="the file is empty"),
    ]
    documents = [Document("a.md", "첫 글", "x", pages=(0, 5)), Document("b.md", "베낀 글", "x")]
    watch = {"interval": 5.0, "problem": "The disk is full."}
    info = {"problem": "Generation 4 is refused.", "watch": watch}
    shown = material.listing_html("en", info, entries, documents)
    assert re.findall(r'role="alert">([^<]*)<', shown) == [info["problem"], watch["problem"]]
    assert (
        shown.index("z.pdf") < shown.index("첫 글") < shown.index("also in") < shown.index("b.kr")
    )
    assert shown.count("<li>") == 3 and "2 pages" in shown and "every 5 s" in shown
    assert "data-fqa" not in shown
    assert material.listing_html("en", info, entries, documents, True).count("data-id=") == 3


def test_a_citation_names_date_page_and_copies() -> None:
    citation = cited(1, "문장.", page=4, also=("b.md", "gone.md"))
    documents = {
        "a.md": Document("a.md", "글 하나", "문장.", date="2024-05-07"),
        "b.md": Document("b.md", "글 하나", "문장.", "https://www.b.kr/1"),
    }
    shown = fragments.answer_html(answer("문장. [1]", citation), documents=documents)
    assert "글 하나 · 2024-05-07 · 4쪽" in shown
    copies = re.findall(r'<a class="fqa-copy" href="(.*?)">(.*?)</a>', shown)
    assert copies == [("#s/0-0/b.md", "b.kr"), ("#s/0-0/gone.md", "gone.md")]


def test_pages_are_marked_where_they_begin() -> None:
    text = "첫 쪽의 글이\n\n둘째 문단이 쪽을 넘는다."
    document = Document("a.pdf", "t", text, pages=(0, 12))
    shown = fragments.panel_html(document, [(8, 20)], (8, 20), "ko")
    assert shown.index(">1쪽<") < shown.index("첫 쪽의 글이")
    assert re.search(r"둘째 .*</mark><span class=\"fqa-page\">2쪽</span><mark", shown)


# --- a served page ------------------------------------------------------------------------------

FORUM = """---
title: 강변 도시 포럼 보고
source: https://example.org/forum?a=1&b=2
date: 2024-05-07
language: ko
questions:
  - 박민수 이사는 지역 상점에 무엇을 제안했나요?
  - Who founded the harbour library?
---

# 강변 도시 포럼 보고

## 개회

강변시는 5월 7일 시민회관에서 도시 포럼을 열었다. 포럼에는 시민 200명이 참석했다.

## 한빛전자의 제안

한빛전자 박민수 이사는 지역 상점에 공동 배송을 제안했다. 상인회장은 비용부터 따졌다.
시의원은 교통 혼잡을 걱정했다. 한 시민은 주차장이 모자란다고 말했다.
박민수 이사는 지역 상점에 물류 창고를 함께 쓰는 방안도 제안했다.
"""
HARBOUR = """The harbour library

The harbour library opened in 1931 with four reading rooms. Ada Brook founded the harbour library
and gave it nine thousand books.
"""
TITLED = f"""---
title: >-
  {PAYLOAD}
source: javascript:window.hacked=1
---

제목이 이상한 글이다.
"""
EVIL = f"""보안 시연

보안 담당자 최유진은 {PAYLOAD} 코드를 시연했다.
"""
PROPOSED = "한빛전자 박민수 이사는 지역 상점에 공동 배송을 제안했다."
ASK_KO = "박민수 이사는 지역 상점에 무엇을 제안했나요?"
ASK_EN = "Who founded the harbour library?"
ASK_NOTHING = "우주 정거장의 예산은 얼마인가요?"


class GatedForum(ForumQA):
    """The real engine. While a gate is shut, its answers wait halfway, and its rebuilds at the
    file that is named as ``held``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "index", folder / "corpus")
        self.answering, self.building = threading.Event(), threading.Event()
        self.held = ""
        self.histories: list[Sequence[Message]] = []
        self.open_gates()

    def open_gates(self) -> None:
        self.answering.set()
        self.building.set()

    def stream(self, question: str, *, history: Sequence[Message] = ()) -> Iterator[Answer]:
        self.histories.append(history)
        *_, whole = super().stream(question, history=history)
        yield replace(whole, text=whole.text[:9])
        assert self.answering.wait(20)
        yield whole

    def rebuild(self, corpus: Any = None, progress: Progress | None = None) -> BuildReport:
        def step(done: int, total: int, what: str) -> None:
            if progress:
                progress(done, total, what)
            assert what != self.held or self.building.wait(20)

        return super().rebuild(corpus, step)


class Served:
    """A server in a thread on a free port."""

    def __init__(self, forum: ForumQA, editors: Any = "local") -> None:
        self.forum: Any = forum
        self.editors = editors
        self.server: Any = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.thread.start()
        until(lambda: self.server is not None and self.server.started)

    async def _serve(self) -> None:
        # In a running event loop, as Gradio makes some of its own elsewhere and never closes them.
        import uvicorn

        from forumqa.webui import create_app

        config = uvicorn.Config(
            create_app(self.forum, self.editors),
            port=self.port,
            log_level="error",
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        await self.server.serve()

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def write_corpus(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "forum.md").write_text(FORUM, encoding="utf-8")
    (folder / "harbour.txt").write_text(HARBOUR, encoding="utf-8")
    (folder / "titled.md").write_text(TITLED, encoding="utf-8")
    (folder / "evil.txt").write_text(EVIL, encoding="utf-8")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("webui")
    write_corpus(folder / "corpus")
    forum = GatedForum(folder)
    forum.rebuild()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
        site = Served(forum)
        yield site
        forum.open_gates()
        site.close()
        forum.close()


LIBRARY = """---
title: 달빛 도서관 개관
source: https://www.{host}/news/1
date: 2024-06-0{day}
---

달빛 도서관은 11월 3일에 문을 연다. 장서는 3만 권이고, 어린이 열람실이 따로 있다. 시장은 개관식에서
시민 모두의 서재가 되기를 바란다고 말했다. 도서관은 월요일마다 쉬고 밤 9시까지 불을 밝힌다. 첫 주에는
지역 작가 다섯 사람과의 만남이 열리고, 마지막 날에는 달빛 음악회가 마당에서 이어진다.{more}
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Office files, near copies and a link out of the folder, served to readers who may not edit."""
    folder = tmp_path_factory.mktemp("shelf")
    corpus = folder / "corpus"
    corpus.mkdir()
    for day, host in enumerate(("gaon.example.kr", "narae.example.kr"), 1):
        text = LIBRARY.format(host=host, day=day, more="" if day == 1 else " 입장은 무료다.")
        (corpus / f"보도 {day}.md").write_text(text, encoding="utf-8")
    shutil.copy(DATA / "article.pdf", corpus / "산업정책 포럼.pdf")
    (corpus / "page.html").write_text(
        "<html><body><p>바다에는 섬이 많다.</p></body></html>", "utf-8"
    )
    (folder / "secret.txt").write_text("금고의 번호는 여섯 자리다.", encoding="utf-8")
    (corpus / "link.txt").symlink_to(folder / "secret.txt")
    (corpus / "broken.pdf").write_bytes(b"%PDF-1.4 cut")
    forum = ForumQA(folder / "index", corpus)
    forum.rebuild()
    site = Served(forum, "nobody")
    yield site
    site.close()
    forum.close()


def test_health_policy_and_language_of_the_frame(served: Served) -> None:
    assert httpx.get(f"{served.url}healthz").json() == {"status": "ok"}
    page = httpx.get(
        served.url, headers={"accept-language": "ko-KR", "accept-encoding": "br, gzip"}
    )
    assert page.status_code == 200 and 'lang="ko"' in page.text[:200]
    assert "default-src 'self'" in page.headers["content-security-policy"]
    english = httpx.get(served.url, headers={"accept-language": "ko", "cookie": "forumqa_lang=en"})
    assert 'lang="en"' in english.text[:200]
    assert httpx.get(f"{served.url}docs").status_code == 404


def test_a_source_is_served_with_its_marks(served: Served) -> None:
    document = served.forum.document("forum.md")
    start = document.text.index(PROPOSED)
    query = {"id": "forum.md", "at": [f"{start}-{start + len(PROPOSED)}", "x", "1-", "-2"]}
    found = httpx.get(f"{served.url}source", params=query)
    assert f">{PROPOSED}</mark>" in found.text and "2024-05-07" in found.text
    assert 'href="https://example.org/forum?a=1&amp;b=2"' in found.text
    gone = httpx.get(f"{served.url}source", params={"id": "../secret", "at": "0-3"})
    assert "no longer part" in gone.text


def test_the_original_is_served_if_it_is_in_the_folder_and_in_the_index(shelf: Served) -> None:
    def get(document_id: str) -> httpx.Response:
        return httpx.get(f"{shelf.url}original", params={"id": document_id})

    pdf, page = get("산업정책 포럼.pdf"), get("page.html")
    assert pdf.content == (DATA / "article.pdf").read_bytes()
    assert pdf.headers["content-type"] == "application/pdf"
    assert pdf.headers["content-disposition"].startswith("inline")
    assert page.headers["content-disposition"].startswith("attachment")
    assert page.headers["content-type"] == "application/octet-stream"
    for answer in (pdf, page):
        assert "sandbox" in answer.headers.get_list("content-security-policy")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert shelf.forum.document("link.txt") is not None
    for name in ("link.txt", "../secret.txt", "broken.pdf", "", "/etc/passwd", "corpus/page.html"):
        assert get(name).status_code == 404, name


@pytest.mark.parametrize(
    ("editors", "headers", "may"),
    [
        ("local", {"host": "127.0.0.1:7860"}, True),
        ("local", {"host": "localhost:7860", "origin": "http://localhost:7860"}, True),
        ("local", {"host": "[::1]:7860"}, True),
        ("local", {"host": "127.0.0.1:7860", "origin": "https://evil.example"}, False),
        ("local", {"host": "127.0.0.1:7860", "origin": "null"}, False),
        ("local", {"host": "evil.example:7860", "origin": "http://evil.example:7860"}, False),
        ("local", {"host": "127.0.0.1.evil.example"}, False),
        ("local", {}, False),
        ("all", {"host": "forum.example"}, True),
        ("all", {"host": "forum.example", "origin": "https://evil.example"}, False),
        ("nobody", {"host": "127.0.0.1:7860"}, False),
    ],
)
def test_who_may_edit(editors: Any, headers: dict[str, str], may: bool) -> None:
    assert adding.may_edit(editors, headers) is may


def call(site: Served, button: str, data: list[Any], **headers: str) -> str:
    """Press a button as a program would that knows no page; return what it would show."""
    config = httpx.get(f"{site.url}config").json()
    (at,) = [c["id"] for c in config["components"] if c["props"].get("elem_id") == button]
    (event,) = [d["id"] for d in config["dependencies"] if [at, "click"] in map(list, d["targets"])]
    body = {"data": data, "fn_index": event, "session_hash": "tester"}
    joined = httpx.post(f"{site.url}gradio_api/queue/join", json=body, headers=headers)
    assert joined.status_code == 200
    told = httpx.get(f"{site.url}gradio_api/queue/data?session_hash=tester", timeout=20).text
    (done,) = [line for line in told.splitlines() if "process_completed" in line]
    return str(json.loads(done.removeprefix("data: "))["output"]["data"][0])


def test_handlers_refuse_who_may_not_edit(shelf: Served, served: Served) -> None:
    before = sorted(shelf.forum.corpus.iterdir()), sorted(served.forum.corpus.iterdir())
    text = ["제목", "아무나 더한 글이다."]
    foreign = {"origin": "https://evil.example"}
    for site, headers in ((shelf, {}), (served, foreign)):
        sent = httpx.post(
            f"{site.url}gradio_api/upload", files={"files": ("a.txt", b"a")}, headers=headers
        )
        assert sent.status_code == 403
    for said in (
        call(shelf, "fqa-add-text", text),
        call(shelf, "fqa-add-url", ["https://example.org/"]),
        call(served, "fqa-add-text", text, **foreign),
    ):
        assert "forumqa serve --editable" in said
    assert before == (sorted(shelf.forum.corpus.iterdir()), sorted(served.forum.corpus.iterdir()))


def test_only_uploads_are_read_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    secret = tmp_path / "elsewhere" / "secret.txt"
    upload = tmp_path / "uploads" / "ab12" / "note.txt"
    link = tmp_path / "uploads" / "cd34" / "link.txt"
    for path in (secret, upload, link):
        path.parent.mkdir(parents=True)
    secret.write_text("금고의 번호는 여섯 자리다.", encoding="utf-8")
    upload.write_text("강에는 다리가 있다.", encoding="utf-8")
    link.symlink_to(secret)
    files = [{"path": str(path), "orig_name": "../../메모.txt"} for path in (secret, upload, link)]
    outcomes = []
    for _, bring in adding.uploads([*files, {"path": "/proc/self/nowhere"}, {}]):
        try:
            outcomes.append(bring(corpus).id)
        except LoadFailed as error:
            outcomes.append(str(error))
    refused = "the file was not uploaded; choose it again"
    gone = "the upload did not arrive; choose the file again"
    assert outcomes == [refused, "메모.txt", refused, gone, gone]
    adding.forget(files)
    assert secret.exists() and not upload.parent.exists()


def test_gradio_downloads_nothing(served: Served, tmp_path: Path) -> None:
    from gradio import processing_utils

    coroutine = processing_utils.async_ssrf_protected_download("http://a.example/x", str(tmp_path))
    with pytest.raises(Exception, match="is not fetched"):
        asyncio.run(coroutine)


def test_programs_have_two_documented_endpoints(served: Served) -> None:
    from gradio_client import Client

    client = Client(served.url, verbose=False)
    api = client.view_api(return_format="dict")
    assert set(api["named_endpoints"]) == {"/retrieve", "/ask"} and not api["unnamed_endpoints"]
    hits = client.predict(ASK_KO, 2, api_name="/retrieve")
    assert len(hits) == 2 and hits[0]["passage"]["document_id"] == "forum.md"
    found = client.predict(ASK_KO, api_name="/ask")
    assert found["kind"] == "extractive" and found["citations"][0]["number"] == 1
    text = served.forum.document("forum.md").text
    for citation in found["citations"]:
        assert text[citation["start"] : citation["end"]] == citation["quote"]
    earlier = [{"role": "user", "content": ASK_KO}]
    client.predict(ASK_NOTHING, earlier, api_name="/ask")
    assert list(served.forum.histories[-1]) == earlier


def test_the_page_is_up_before_the_engine_is_touched(tmp_path: Path) -> None:
    touched = threading.Event()

    class Untouched(ForumQA):
        def documents(self) -> list[Document]:
            touched.set()
            raise IndexMissing("no index")

    site = Served(Untouched(tmp_path / "none"))
    try:
        assert not touched.is_set()
        assert httpx.get(site.url).status_code == 200
        assert touched.wait(5)
    finally:
        site.close()


# --- the page in Chromium -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        reason = "no chromium on this machine (Debian: apt-get install chromium fonts-noto-cjk)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    arguments = (
        "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
        "--disable-sync"
    )
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=arguments.split())
        yield running
        running.close()


class Reader:
    """One open page, and what a reader does with it."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        options = {"locale": "ko-KR", "viewport": {"width": 1280, "height": 800}} | context
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(8000)
        self.foreign: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", self._request)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.url = url
        self.page.goto(url)
        self.page.wait_for_selector("#fqa-box textarea")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.foreign.append(request.url)

    def __getitem__(self, selector: str) -> Any:
        return self.page.locator(selector)

    def type(self, question: str) -> None:
        self["#fqa-box textarea"].fill(question)
        self.page.keyboard.press("Enter")

    def ask(self, question: str) -> str:
        """Ask, wait for the complete answer, return its text."""
        answers = self[".bot-row .fqa-answer"].count()
        self.type(question)
        self.page.wait_for_function(
            "n => document.querySelectorAll('.bot-row .fqa-answer').length > n", arg=answers
        )
        self.ready()
        return str(self[".bot-row .fqa-answer"].last.inner_text())

    def ready(self) -> None:
        self["#fqa-box .stop-button"].wait_for(state="detached")
        self["#fqa-box .submit-button"].wait_for()

    def sees(self, text: str, selector: str = "body") -> None:
        self[selector].filter(has_text=text).first.wait_for()

    def focus(self) -> str:
        found = "e => e.className || e.tagName"
        return str(self.page.evaluate(f"({found})(document.activeElement)"))


@pytest.fixture
def reader(browser: Any, served: Served) -> Iterator[Callable[..., Reader]]:
    """Open pages; at the end none of them has called elsewhere or logged an error."""
    opened: list[Reader] = []
    served.forum.open_gates()

    def visit(**context: Any) -> Reader:
        opened.append(Reader(browser, served.url, **context))
        return opened[-1]

    yield visit
    served.forum.open_gates()
    for one in opened:
        one.context.close()
        assert not one.foreign
        assert not one.errors


@pytest.mark.browser
def test_an_answer_streams_and_its_citation_marks_the_sentence(
    reader: Callable[..., Reader], served: Served
) -> None:
    page = reader()
    page.sees("무엇이 궁금하신가요?")
    page.sees("문서 4건", "#fqa-head")
    served.forum.answering.clear()
    page.type(ASK_KO)
    page.sees(PROPOSED[:9], ".bot-row .fqa-answer")
    assert PROPOSED not in page[".bot-row"].inner_text()
    assert page["#fqa-box .stop-button"].get_attribute("aria-label") == "멈추기"
    served.forum.answering.set()
    page.sees(PROPOSED, ".bot-row .fqa-answer")
    page.ready()
    assert page.page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    assert page["#fqa-box .submit-button"].get_attribute("aria-label") == "보내기"

    link = page[".fqa-answer a.fqa-cite"].first
    size = link.bounding_box()
    assert size["width"] >= 24 and size["height"] >= 24
    link.click()
    mark = page["#fqa-source mark.fqa-current"].first
    mark.wait_for()
    assert PROPOSED in mark.inner_text()
    assert "fqa-current" in page.focus()
    panel, box = page["#fqa-source .fqa-panel"].bounding_box(), mark.bounding_box()
    assert panel["y"] <= box["y"] and box["y"] + box["height"] <= panel["y"] + panel["height"]
    page.sees("2024-05-07", "#fqa-source .fqa-facts")

    # From the keyboard: back to the citation, and in again.
    page.page.keyboard.press("Escape")
    assert not page["#fqa-source"].is_visible() and "fqa-cite" in page.focus()
    page.page.keyboard.press("Enter")
    mark.wait_for()


@pytest.mark.browser
def test_all_citations_of_a_document_are_marked_and_older_turns_still_open(
    reader: Callable[..., Reader], served: Served
) -> None:
    page = reader()
    page["#fqa-bot .example"].first.click()
    page.page.wait_for_selector(".fqa-more a.fqa-cite")
    page.ready()
    cited_here = page[".fqa-answer a.fqa-cite"].count()
    page.ask(ASK_EN)
    assert served.forum.histories[-1][0] == {"role": "user", "content": ASK_KO}
    assert "<" not in served.forum.histories[-1][1]["content"]
    page[".fqa-answer a.fqa-cite"].first.click()
    page.page.wait_for_selector("#fqa-source mark")
    marked = page["#fqa-source mark"].all_inner_texts()
    assert len(marked) >= cited_here and PROPOSED in " ".join(marked)
    page[".fqa-answer a.fqa-cite"].last.click()
    page.sees("Ada Brook founded", "#fqa-source mark")


@pytest.mark.browser
def test_abstaining_offers_passages_and_opens_them(reader: Callable[..., Reader]) -> None:
    page = reader()
    said = page.ask(ASK_NOTHING)
    assert "자료" in said and page[".fqa-answer.fqa-abstained"].count() == 1
    assert page[".fqa-cite"].count() == 0
    page.sees("가장 가까운 대목", ".fqa-more")
    page["a.fqa-near"].first.click()
    page.page.wait_for_selector("#fqa-source mark.fqa-current")


@pytest.mark.browser
def test_language_and_theme(reader: Callable[..., Reader]) -> None:
    page = reader(locale="en-US", color_scheme="dark")
    page.sees("What would you like to know?")
    assert page.page.evaluate("document.documentElement.lang") == "en"
    assert page.page.evaluate("document.body.classList.contains('dark')")
    assert "Ada Brook" in page.ask(ASK_EN)
    page["[data-fqa=language][data-value=ko]"].click()
    page.sees("새 대화", "#fqa-new")
    page.sees("자료", "#fqa-material")
    page.sees("문서 4건", "#fqa-head")
    assert page.page.evaluate("document.documentElement.lang") == "ko"
    assert page["#fqa-box textarea"].get_attribute("placeholder") == "질문을 입력하세요"
    page.page.wait_for_selector("#fqa-bot [aria-label='다시 시도']")
    assert page[".fqa-answer"].count() == 1  # the chat is still there
    page["[data-fqa=theme]"].click()
    page.page.wait_for_function("!document.body.classList.contains('dark')")
    page.page.reload()
    page.sees("무엇이 궁금하신가요?")
    page.page.wait_for_function("!document.body.classList.contains('dark')")


@pytest.mark.browser
def test_on_a_phone_the_source_covers_the_chat(
    reader: Callable[..., Reader],
) -> None:
    page = reader(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page.ask(ASK_KO)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    page[".fqa-answer a.fqa-cite"].first.tap()
    page.page.wait_for_selector("#fqa-source mark.fqa-current")
    page.page.wait_for_timeout(250)
    panel = page["#fqa-source"].bounding_box()
    assert (panel["x"], panel["width"], panel["height"]) == (0, 390, 800)
    assert page.page.evaluate("document.querySelector('#fqa-chat').inert")
    page["[data-fqa=back]"].tap()
    assert not page["#fqa-source"].is_visible() and "fqa-cite" in page.focus()
    assert not page.page.evaluate("document.querySelector('#fqa-chat').inert")
    # The browser's way back leads out of the panel, not out of the page.
    page[".fqa-answer a.fqa-cite"].first.tap()
    page.page.wait_for_selector("#fqa-source mark.fqa-current")
    page.page.go_back()
    page["#fqa-source"].wait_for(state="hidden")
    assert page[".bot-row .fqa-answer"].count() == 1 and "fqa-cite" in page.focus()
    page.page.go_back()
    assert page.page.url == "about:blank"


@pytest.mark.browser
def test_markup_in_documents_and_questions_is_inert(reader: Callable[..., Reader]) -> None:
    page = reader()
    question = f"최유진은 어떤 코드를 시연했나요? {PAYLOAD}"
    assert "<script>window.hacked=1</script>" in page.ask(question)
    assert page[".user-row .message"].last.inner_text().strip() == question
    page[".fqa-answer a.fqa-cite"].first.click()
    page.sees("<svg onload=window.hacked=1>", "#fqa-source mark")
    page["#fqa-material .label-wrap"].click()
    page.sees("<script>", "#fqa-listing")
    page.page.wait_for_timeout(200)
    assert page.page.evaluate("window.hacked") is None
    assert page["#fqa-bot img, #fqa-source img, #fqa-listing img"].count() == 0


@pytest.mark.browser
def test_stop_retry_edit_copy_and_clear(reader: Callable[..., Reader], served: Served) -> None:
    page = reader(permissions=["clipboard-read", "clipboard-write"])
    served.forum.answering.clear()
    page.type(ASK_KO)
    page.sees(PROPOSED[:9], ".bot-row .fqa-answer")
    page["#fqa-box .stop-button"].click()
    page.sees("여기에서 멈췄습니다.", ".bot-row")
    served.forum.answering.set()
    page.page.wait_for_timeout(300)
    assert PROPOSED not in page["#fqa-bot"].inner_text()
    page.ready()

    page["#fqa-bot [aria-label='다시 시도']"].click()
    page.sees(PROPOSED, ".bot-row .fqa-answer")
    page.ready()
    assert page[".user-row"].count() == page[".bot-row"].count() == 1

    page["#fqa-bot [aria-label='복사']"].last.click()
    page.page.wait_for_timeout(100)
    copied = page.page.evaluate("navigator.clipboard.readText()")
    assert PROPOSED in copied and "[1]" in copied and "<" not in copied

    page["#fqa-bot [aria-label='편집']"].click()
    page["#fqa-bot textarea.edit-textarea"].fill(ASK_EN)
    page["#fqa-bot [aria-label='제출']"].click()
    page.sees("Ada Brook founded", ".bot-row .fqa-answer")
    page.ready()
    assert page[".user-row .message"].inner_text().strip() == ASK_EN

    page["#fqa-new"].click()
    page.sees("무엇이 궁금하신가요?")
    assert page[".bot-row"].count() == 0


@pytest.mark.browser
def test_an_answer_never_reaches_a_chat_that_has_moved_on(
    reader: Callable[..., Reader], served: Served
) -> None:
    page = reader()
    served.forum.answering.clear()
    page.type(ASK_KO)
    page.sees(PROPOSED[:9], ".bot-row .fqa-answer")
    page["#fqa-new"].click()
    page["#fqa-bot .example"].first.wait_for()
    page.type(ASK_KO)
    page.sees(PROPOSED[:9], ".bot-row .fqa-answer")
    page.type(ASK_EN)  # asked while the answer before it is being written
    page.page.wait_for_function("document.querySelectorAll('.user-row').length === 2")
    served.forum.answering.set()
    page.sees("Ada Brook founded", ".bot-row .fqa-answer")
    page.ready()
    page.page.wait_for_timeout(300)
    assert page[".user-row"].all_inner_texts()[-1].strip() == ASK_EN
    assert PROPOSED not in page["#fqa-bot"].inner_text()


@pytest.mark.browser
def test_rebuilding_takes_up_a_new_document_while_the_chat_goes_on(
    reader: Callable[..., Reader], served: Served
) -> None:
    page = reader()
    new = served.forum.corpus / "새 글.md"
    question = "달빛 도서관은 언제 문을 여나요?"
    new.write_text("# 달빛 도서관\n\n달빛 도서관은 11월 3일에 문을 연다.\n", encoding="utf-8")
    try:
        page["#fqa-material .label-wrap"].click()
        page.sees("강변 도시 포럼 보고", "#fqa-listing")
        served.forum.held = "새 글.md"
        served.forum.building.clear()
        page["#fqa-rebuild"].click()
        page.sees("새 글.md", "#fqa-report")
        assert PROPOSED in page.ask(ASK_KO)
        served.forum.building.set()
        page.sees("새 글.md", ".fqa-report")
        page.sees("문서 5건", "#fqa-head")
        assert "11월 3일" in page.ask(question)
    finally:
        new.unlink()
        served.forum.building.set()
        served.forum.rebuild()
    # The answer is still there; its document is not.
    page[".fqa-answer a.fqa-cite"].last.click()
    page.sees("더 이상 자료에 없습니다", "#fqa-source")


@pytest.mark.browser
def test_uploaded_files_are_asked_about_while_the_chat_goes_on(
    reader: Callable[..., Reader], served: Served
) -> None:
    page, forum = reader(), served.forum
    uploads = forum.corpus.parent / "uploads"
    village = {
        "name": "가온 마을.txt",
        "mimeType": "text/plain",
        "buffer": "가온 마을\n\n가온 마을의 우물은 1872년에 팠다. 물맛이 좋았다.\n".encode("cp949"),
    }
    hangul = DATA / "article.hwpx"
    hangul = {"name": hangul.name, "mimeType": "", "buffer": hangul.read_bytes()}
    broken = {"name": "표.xlsx", "mimeType": "", "buffer": b"PK\x03\x04xl/"}
    page["#fqa-material .label-wrap"].click()
    page["#fqa-upload"].wait_for()
    try:
        forum.held = "가온 마을.txt"
        forum.building.clear()
        assert ".hwpx" in page["#fqa-add input[type=file]"].get_attribute("accept")
        page["#fqa-add input[type=file]"].set_input_files([hangul, village, broken])
        page.page.wait_for_selector("#fqa-report .progress-bar")
        page.sees("가온 마을.txt", "#fqa-report")
        assert PROPOSED in page.ask(ASK_KO)
        forum.building.set()
        page.sees("가온 마을.txt", ".fqa-report")
        page.sees("표.xlsx: the format .xlsx is not read", ".fqa-report")
        page.sees("문서 6건", "#fqa-head")
        page.sees("HWPX", "#fqa-listing")
        assert not [path for path in uploads.rglob("*") if path.is_file()]
        for question, sentence in (
            ("가온 마을의 우물은 언제 팠나요?", "가온 마을의 우물은 1872년에 팠다."),
            ("토론에서 가장 큰 쟁점은 무엇이었나요?", "공장을 옮기는 비용을 누가 낼 것인지가"),
        ):
            assert sentence in page.ask(question)
            page[".bot-row .fqa-answer"].last.locator("a.fqa-cite").first.click()
            page.sees(sentence, "#fqa-source mark.fqa-current")
    finally:
        forum.building.set()
        for name in ("article.hwpx", "가온 마을.txt"):
            (forum.corpus / name).unlink(missing_ok=True)
        forum.rebuild()


@pytest.mark.browser
def test_pasted_and_dropped_texts_come_in_private_addresses_do_not_and_all_can_go(
    reader: Callable[..., Reader], served: Served
) -> None:
    page = reader(locale="en-US")
    page["#fqa-material .label-wrap"].click()
    try:
        page["#fqa-url input, #fqa-url textarea"].fill(served.url.replace(f":{served.port}", ""))
        page["#fqa-add-url"].click()
        page.sees("which is no server of the public web", "#fqa-report")
        page["#fqa-add-text"].click()
        page.sees("There is nothing to add yet.", "#fqa-report")
        page["#fqa-title input, #fqa-title textarea"].fill("The lighthouse")
        page["#fqa-text textarea"].fill("Mira Holt built the northern lighthouse in 1866.")
        page["#fqa-add-text"].click()
        page.sees("The lighthouse.md", ".fqa-report")
        page.sees("5 documents", "#fqa-head")
        assert page["#fqa-text textarea"].input_value() == ""
        assert "Mira Holt" in page.ask("Who built the northern lighthouse?")

        page.page.evaluate(
            """() => {
              const given = new DataTransfer();
              given.items.add(new File(["The granary\\n\\nThe granary holds ninety tons of rye."], "granary.txt"));
              document.querySelector("#fqa-listing").dispatchEvent(
                new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: given }));
            }"""
        )
        page.sees("granary.txt", ".fqa-report")
        page.sees("6 documents", "#fqa-head")

        page.page.once("dialog", lambda dialog: dialog.dismiss())
        button = page["#fqa-listing [data-id='The lighthouse.md']"]
        button.click()
        assert (served.forum.corpus / "The lighthouse.md").exists()
        page.page.once("dialog", lambda dialog: dialog.accept())
        button.click()
        page.sees("5 documents", "#fqa-head")
        assert not (served.forum.corpus / "The lighthouse.md").exists()
        page[".fqa-answer a.fqa-cite"].last.click()
        page.sees("no longer part of the material", "#fqa-source")
    finally:
        for name in ("The lighthouse.md", "granary.txt"):
            (served.forum.corpus / name).unlink(missing_ok=True)
        served.forum.rebuild()


@pytest.mark.browser
def test_a_page_without_editors_shows_copies_pages_and_originals(
    browser: Any, shelf: Served
) -> None:
    page = Reader(browser, shelf.url)
    try:
        page.ask("달빛 도서관은 언제 문을 여나요?")
        page.sees("달빛 도서관 개관 · 2024-06-01", ".fqa-more")
        page["a.fqa-copy"].click()
        page.sees("2024-06-02", "#fqa-source .fqa-facts")
        assert (
            page["#fqa-source a[target=_blank]"].first.get_attribute("rel").startswith("noopener")
        )
        page["#fqa-source a.fqa-copy"].click()  # and from the copy to the first
        page.sees("2024-06-01", "#fqa-source .fqa-facts")
        page.page.keyboard.press("Escape")
        assert "fqa-copy" in page.focus()

        page.ask("토론에서 가장 큰 쟁점은 무엇이었나요?")
        page.sees("가람시 산업정책 포럼 개최 · 2026-11-25 · 3쪽".partition(" · ")[0], ".fqa-more")
        page.sees("· 3쪽", ".fqa-more")
        page[".fqa-answer a.fqa-cite"].last.click()
        page.sees("3쪽", "#fqa-source .fqa-facts")
        assert page["#fqa-source .fqa-page"].all_inner_texts() == ["1쪽", "2쪽", "3쪽"]
        assert "쪽" not in page["#fqa-source mark.fqa-current"].first.inner_text()

        page["#fqa-material .label-wrap"].click()
        page.sees("3쪽짜리", "#fqa-listing")
        page.sees("the PDF is damaged", "#fqa-listing .fqa-reason")
        assert page["#fqa-listing li li"].count() == 1
        assert page["#fqa-add, #fqa-listing [data-fqa=remove]"].count() == 0
        assert not page.errors and not page.foreign
    finally:
        page.context.close()


@pytest.mark.browser
def test_a_missing_index_is_one_sentence_in_the_chat(browser: Any, tmp_path: Path) -> None:
    site = Served(ForumQA(tmp_path / "index", tmp_path / "corpus"))
    page = Reader(browser, site.url)
    try:
        page.sees("forumqa rebuild", "#fqa-head .fqa-problem")
        said = page.ask(ASK_KO)
        assert "forumqa rebuild" in said and "Traceback" not in said
        assert page[".fqa-answer.fqa-problem"].count() == 1
        assert not page.errors and not page.foreign
    finally:
        page.context.close()
        site.close()
