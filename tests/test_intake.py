"""Whatever it is called and wherever it comes from, material lands in the corpus folder, whole."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forumqa import AddReport, ForumQA, intake, loaders, store
from forumqa.cli import main
from forumqa.fetch import _Access
from forumqa.intake import Added, add, add_file, add_text, add_upload, add_url, safe_name
from forumqa.loaders import markdown
from forumqa.schema import Document, FetchFailed, ForumQAError, IndexLocked, LoadFailed, Section
from forumqa.text import normalize

A = "가람시는 도서관을 열었다. 관장은 박하늘 씨다."
B = "나루군은 다리를 놓았다. 길이는 120미터다."


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    return folder


def listed(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# --- names ---------------------------------------------------------------------------------------

HOSTILE = [
    "../a.txt", "../../../../etc/cron.d/a.txt", "/etc/a.txt", "C:\\Windows\\a.txt", "C:a.txt",
    "\\\\host\\share\\a.txt", "..\\..\\a.txt", "a\0.txt", "\0.txt", ".txt", "..txt", "....txt",
    ".bashrc.txt", " .txt", "~$a.txt", "-rf.txt", "$HOME.txt", "con.txt", "NUL.txt", "com1.a.txt",
    "aux .txt", "LPT³.txt", "x" * 5000 + ".txt", "가" * 5000 + ".txt", "👩\u200d👩\u200d👧" * 99 + ".txt",
    "a\u202etxt.exe.txt", "\u2066a\u2069.txt", "\u200b.txt", "a\nb.txt", "a\r\nSet-Cookie: b.txt",
    "a.txt ", "a.txt.", "a.TXT", "<script>.txt", "a:b?.txt", "\ud800.txt", "\ufeffa.txt", "e\u0301.txt",
    unicodedata.normalize("NFD", "고양시 보고서.txt"), "sub/../../a.txt", "link/a.txt", "%2e%2e%2fa.txt",
    "．．／a.txt", "a\u2215b.txt", "\u1112\u200b\u1161\u11ab.txt",
]  # fmt: skip


def is_safe(name: str) -> None:
    assert name == unicodedata.normalize("NFC", name)
    assert len(name.encode("utf-8")) <= 100
    assert not set(name) & set('<>:"/\\|?*') and name.isprintable()
    assert name[0] not in ".~$- " and name[-1] not in ". "
    assert not any(unicodedata.category(ch)[0] == "C" for ch in name)
    assert not re.match(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_never_leaves_the_folder(name: str, corpus: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (corpus / "link").symlink_to(outside, target_is_directory=True)
    added = add_upload(name, A.encode(), corpus)
    is_safe(added.id)
    assert listed(tmp_path) == sorted(["corpus", "corpus/link", f"corpus/{added.id}", "outside"])
    assert (corpus / added.id).read_text("utf-8") == A and added.id.endswith(".txt")
    # What was saved is what a rebuild finds, under the same id.
    from forumqa.indexer import scan

    assert list(scan(corpus).files) == [added.id]
    again = add_upload(name, B.encode(), corpus)
    is_safe(again.id)
    assert again.id != added.id and len(_files(corpus)) == 2


def _files(corpus: Path) -> list[str]:
    return [name for name in listed(corpus) if (corpus / name).is_file()]


@given(st.text(max_size=300), st.sampled_from([".md", ".txt", ".hwpx"]))
def test_any_title_makes_a_safe_name(title: str, suffix: str) -> None:
    name = safe_name(title, suffix)
    is_safe(name)
    assert name.endswith(suffix) and len(name) > len(suffix)
    assert safe_name(name.removesuffix(suffix), suffix) == name, "a safe name is left alone"


def test_a_plain_title_is_kept() -> None:
    assert safe_name("고양시, ‘AI 실증’ 3곳 선정", ".md") == "고양시, ‘AI 실증’ 3곳 선정.md"
    assert safe_name("AI/데이터: 무엇?", ".md") == "AI 데이터 무엇.md"
    assert safe_name("\u1112\u200b\u1161\u11ab", ".md") == "한.md"


def test_links_in_the_folder_are_not_followed(corpus: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("old", "utf-8")
    (corpus / "a.txt").symlink_to(secret)
    (corpus / "b.txt").symlink_to(tmp_path / "nowhere.txt")
    assert add_upload("a.txt", A.encode(), corpus).id == "a (2).txt"
    assert add_upload("b.txt", B.encode(), corpus).id == "b (2).txt"
    assert secret.read_text("utf-8") == "old" and not (tmp_path / "nowhere.txt").exists()
    (tmp_path / "way").symlink_to(corpus, target_is_directory=True)
    assert add_upload("c.txt", (A + B).encode(), tmp_path / "way").id == "c.txt"


# --- what is there, what is refused --------------------------------------------------------------


def test_names_and_twins(corpus: Path) -> None:
    assert add_upload("회의.txt", A.encode(), corpus) == Added("회의.txt", "added")
    assert add_upload("회의.txt", B.encode(), corpus) == Added("회의 (2).txt", "added")
    assert add_upload("다른 이름.txt", A.encode(), corpus) == Added("회의.txt", "present")
    decomposed = unicodedata.normalize("NFD", "보고.txt")
    (corpus / decomposed).write_text("하나.", "utf-8")
    assert add_upload("보고.txt", B.encode() + b"\n", corpus).id == "보고 (2).txt"
    (corpus / "Notes.txt").write_text("둘.", "utf-8")
    assert add_upload("notes.txt", A.encode() + b"\n", corpus).id == "notes (2).txt"


def test_the_same_twice_at_once_is_one(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Barrier(8)
    search = intake._twin

    def slowly(data: bytes, folder: Path) -> Path | None:
        found = search(data, folder)
        time.sleep(0.01)
        return found

    monkeypatch.setattr(intake, "_twin", slowly)
    found: list[Added] = []

    def run() -> None:
        start.wait()
        found.append(add_upload("a.txt", A.encode(), corpus))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.outcome for one in found) == ["added"] + ["present"] * 7
    assert listed(corpus) == ["a.txt"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.exe", b"MZ", "format .exe is not read"), ("a", b"x", "without a suffix"),
        ("a.txt\u202e.exe", b"x", "format .exe"), ("a.txt::$DATA", b"x", "is not read"),
        ("a.txt", b" \n", "empty"), ("a.txt", b"\0\1\xff", "binary"), ("a.md", b"---\n: {\n---\n", "YAML"),
        ("a.txt", b"... --- ...", "no text"), ("", b"x", "without a suffix"),
    ],
)  # fmt: skip
def test_refused_before_it_is_written(name: str, data: bytes, reason: str, corpus: Path) -> None:
    with pytest.raises(LoadFailed, match=reason):
        add_upload(name, data, corpus)
    assert listed(corpus) == []


def test_files_that_are_none(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for path, reason in [
        (tmp_path / "pipe.txt", "no file"), (Path("/dev/zero"), "no file"), (tmp_path, "a folder"),
        (tmp_path / "none.txt", "No such file"), (Path("a\0.txt"), "no such file"),
    ]:  # fmt: skip
        with pytest.raises(LoadFailed, match=reason):
            add_file(path, corpus)
    monkeypatch.setattr(loaders, "MAX_BYTES", 10)
    (tmp_path / "big.txt").write_text(A, "utf-8")
    with pytest.raises(LoadFailed, match="larger"):
        add_file(tmp_path / "big.txt", corpus)
    assert listed(corpus) == []
    with pytest.raises(ForumQAError, match="at most 50"):
        add(["a.txt"] * 51, corpus)
    with pytest.raises(ForumQAError, match="no folder"):
        add_upload("a.txt", b"x", tmp_path / "missing")


def test_no_half_file_is_ever_seen(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, link = os.fsync, Path.hardlink_to
    steps: list[str] = []

    def visible() -> list[str]:
        return [name for name in listed(corpus) if not name.startswith(".")]

    def watched(descriptor: int) -> None:
        assert visible() == []
        steps.append("safe on disk")
        sync(descriptor)

    def complete(path: Path, target: Path) -> None:
        assert visible() == [] and target.read_bytes() == A.encode()
        steps.append("named")
        link(path, target)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(Path, "hardlink_to", complete)
    add_upload("a.txt", A.encode(), corpus)
    assert listed(corpus) == ["a.txt"] and steps == ["safe on disk", "named"]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ForumQAError, match="No space left"):
        add_upload("b.txt", B.encode(), corpus)
    assert listed(corpus) == ["a.txt"] and (corpus / "a.txt").read_text("utf-8") == A


@pytest.mark.parametrize("hard_links", [True, False])
def test_another_process_takes_the_name(
    hard_links: bool, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Path.hardlink_to

    def overtaken(path: Path, target: Path) -> None:
        if path.name == "a.txt":
            path.write_text("theirs", "utf-8")
        if not hard_links:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        link(path, target)

    monkeypatch.setattr(Path, "hardlink_to", overtaken)
    assert add_upload("a.txt", A.encode(), corpus).id == "a (2).txt"
    assert (corpus / "a.txt").read_text("utf-8") == "theirs"


def test_without_hard_links(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert add_upload("a.txt", A.encode(), corpus).id == "a.txt"
    assert add_upload("a.txt", B.encode(), corpus).id == "a (2).txt"
    assert (corpus / "a.txt").read_text("utf-8") == A and len(listed(corpus)) == 2


# --- Markdown ------------------------------------------------------------------------------------

MARKS = st.text(
    st.one_of(st.sampled_from("#*_`[]()<>|!&;:-+=~\\\"'.0189 \n\tab가나"), st.characters()),
    max_size=120,
)


def canonical(text: str) -> str:
    lines = "\n".join(" ".join(line.split()) for line in normalize(text).split("\n"))
    return re.sub(r"\n{2,}", "\n\n", lines).strip("\n")


@given(MARKS, MARKS)
def test_text_comes_back_from_markdown(title: str, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    # Not the text's first line, which a loader may leave out where it repeats the title.
    title = f"제목: {title}".encode("utf-8", "replace").decode()
    document = Document(id="a.md", title=title, text=text, source="https://x.example/?a='b'")
    back = markdown.load(markdown.dump(document), "a.md")
    assert back.text == canonical(text)
    assert " ".join(back.title.split()) == " ".join(normalize(" ".join(title.split())).split())
    assert back.source == document.source and back.sections == ()


@pytest.mark.parametrize(
    "text",
    ["# 하나", "1. 하나\n2) 둘", "- 하나\n+ 둘\n* 셋", "> 인용", "a | b\n--- | ---\n1 | 2", "제목\n===",
     "제목\n---", "```\nx\n```", "~~~\nx", "    네 칸", "R&D &amp; &#35;", "[a]: /b", "[a](b) ![c](d)",
     "<b>굵게</b> <!-- x", "별 *하나* 밑줄 _둘_", "역\\사선\\", "---\n안\n---", "\\# x", "a ## b ##"],
)  # fmt: skip
def test_marks_are_text(text: str) -> None:
    back = markdown.load(markdown.dump(Document(id="", title="제목", text=text)), "a.md")
    assert back.text == canonical(text)


def test_headings_come_back() -> None:
    text = "들머리.\n\nC# 소개 #\n\n본문.\n\n1. 끝\n\n끝말."
    at = [text.index("C#"), text.index("1. 끝")]
    sections = (Section(at[0], "C# 소개 #"), Section(at[1], "1. 끝"))
    data = markdown.dump(Document(id="", title="제목", text=text, sections=sections))
    back = markdown.load(data, "a.md")
    assert (back.text, back.sections) == (text, sections)
    assert re.findall(r"^## ", data.decode(), re.M) == ["## ", "## "]


def test_pasted_text(corpus: Path) -> None:
    text = "첫 줄이다.\n둘째 줄이다.\n\n# 해시\n\ud800끝."
    added = add_text("무엇을/어떻게 바꾸나?", text, corpus)
    assert added == Added("무엇을 어떻게 바꾸나.md", "added")
    document = loaders.load((corpus / added.id).read_bytes(), added.id)
    assert document.title == "무엇을/어떻게 바꾸나?" and document.language == "ko"
    assert document.text == "첫 줄이다.\n둘째 줄이다.\n\n# 해시\n?끝."
    assert add_text("무엇을/어떻게 바꾸나?", text, corpus).outcome == "present"
    assert add_text("", "제목 없는 글\n\n본문이다.", corpus).id == "제목 없는 글.md"
    with pytest.raises(LoadFailed):
        add_text("제목", " ", corpus)


# --- pages of the web ----------------------------------------------------------------------------

ARTICLE = """<!doctype html><html lang="ko"><head><meta charset="{charset}">
<title>고양시, 통합 돌봄 시범 사업 시작 - 가람일보</title>
<meta property="og:title" content="고양시, 통합 돌봄 시범 사업 시작">
<meta property="og:type" content="article">
<meta property="article:published_time" content="2024-05-17T09:30:00+09:00">
<script>var tracker = "광고 추적";</script><style>.ad {{ color: red }}</style></head><body>
<header><a href="/">가람일보</a><nav><ul><li><a href="/politics">정치면 바로가기</a></li>
<li><a href="/economy">경제면 바로가기</a></li><li><a href="/login">로그인</a></li></ul></nav></header>
<div class="breadcrumb"><a href="/">홈</a> &gt; <a href="/local">지역</a></div>
<main><article>
<h1>고양시, 통합 돌봄 시범 사업 시작</h1>
<div class="byline">박가람 기자 | 입력 2024.05.17 09:30</div>
<div class="share"><button>페이스북 공유</button><button>글자 크게</button></div>
<div class="article-body" itemprop="articleBody">
<p>고양시는 17일 어르신과 장애인을 위한 통합 돌봄 시범 사업을 시작한다고 밝혔다. 사업에는 3년 동안 모두 48억 원이
들어가며, 덕양구와 일산동구의 주민 1200명이 먼저 서비스를 받는다.</p>
<div class="ad"><a href="https://ads.example">지금 가입하면 경품 증정! 광고 문의</a></div>
<p>시는 동마다 돌봄 매니저를 두고, 한 번의 신청으로 방문 진료와 식사 배달, 집 수리를 함께 받을 수 있게 하기로 했다.
그동안 주민은 서비스마다 다른 기관을 찾아가야 했다.</p>
<h2>내년에는 세 구 모두로</h2>
<p>이한결 복지국장은 "신청에서 첫 방문까지 걸리는 시간을 2주에서 3일로 줄이겠다"고 말했다. 시는 성과를 살펴 내년
하반기에 일산서구까지 사업을 넓힐 계획이다. 연구개발(R&amp;D) 예산도 *별도로* 마련한다.</p>
</div>
<aside class="related"><h3>관련 기사</h3><ul><li><a href="/2">나루군, 새 다리 개통식 열어</a></li>
<li><a href="/3">지역 축제에 5만 명 몰려</a></li></ul></aside>
</article></main>
<section class="popular"><h3>많이 본 뉴스</h3><ol><li><a href="/4">주말 날씨 맑음</a></li>
<li><a href="/5">프로야구 순위 안내</a></li></ol></section>
<footer><p>가람일보 | 등록번호 경기 아00000 | 발행인 홍길동</p>
<p>Copyright © 가람일보. 무단 전재 및 재배포 금지</p></footer></body></html>"""
AROUND = ["바로가기", "로그인", "경품", "광고", "공유", "개통식", "축제", "많이 본", "야구", "발행인",
          "무단 전재", "Copyright", "tracker"]  # fmt: skip


class Site:
    """A server of this process; pages by path, as (content type, body)."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, bytes]] = {}
        pages = self.pages

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path not in pages:
                    self.send_error(404)
                    return
                content_type, body = pages[self.path]
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://news.example:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


LOCAL = _Access(lambda _: ["127.0.0.1"], lambda address: address.is_loopback, ports=None)
ID = "고양시, 통합 돌봄 시범 사업 시작.md"


def test_a_news_page_becomes_its_article(site: Site, corpus: Path) -> None:
    site.pages["/1"] = ("text/html", ARTICLE.format(charset="utf-8").encode())
    added = add_url(f"{site.url}/1#comments", corpus, _access=LOCAL)
    assert added == Added(ID, "added")
    written = (corpus / ID).read_text("utf-8")
    document = loaders.load(written.encode(), ID)
    assert document.title == "고양시, 통합 돌봄 시범 사업 시작"
    assert (document.date, document.language) == ("2024-05-17", "ko")
    assert document.source == f"{site.url}/1"
    assert "\n## 내년에는 세 구 모두로\n" in written
    assert [section.heading for section in document.sections] == ["내년에는 세 구 모두로"]
    for sentence in ("3년 동안 모두 48억 원", "돌봄 매니저를 두고", '3일로 줄이겠다"고 말했다.',
                     "연구개발(R&D) 예산도 *별도로* 마련한다."):  # fmt: skip
        assert sentence in " ".join(document.text.split())
    assert not [word for word in AROUND if word in document.text]


@pytest.mark.parametrize(
    ("content_type", "charset", "encoding"),
    [
        ("text/html", "euc-kr", "euc-kr"),
        ("text/html; charset=EUC-KR", "utf-8", "cp949"),
        ("text/html; charset=utf-8", "euc-kr", "euc-kr"),
        ("text/html; charset=ISO-8859-1", "euc-kr", "euc-kr"),
        ("text/html; charset=ISO-8859-1", "utf-8", "utf-8"),
        ("text/html; charset=euc-kr", "euc-kr", "utf-8"),
        ("text/html; charset=no-such-code", "utf-8", "utf-8"),
        ("text/html; charset=utf-16", "euc-kr", "euc-kr"),
    ],
)
def test_whatever_the_server_says_of_its_letters(
    content_type: str, charset: str, encoding: str, site: Site, corpus: Path
) -> None:
    page = ARTICLE.format(charset=charset).replace("©", "(c)")
    site.pages["/1"] = (content_type, page.encode(encoding))
    assert add_url(f"{site.url}/1", corpus, _access=LOCAL).id == ID
    assert "통합 돌봄 시범 사업을 시작한다고 밝혔다." in (corpus / ID).read_text("utf-8")


def test_an_address_added_again_replaces_its_file(site: Site, corpus: Path) -> None:
    page = ARTICLE.format(charset="utf-8")
    site.pages["/1"] = ("text/html", page.encode())
    site.pages["/2"] = ("text/html", page.replace("48억", "90억").encode())
    assert add_url(f"{site.url}/1", corpus, _access=LOCAL) == Added(ID, "added")
    assert add_url(f"{site.url}/1", corpus, _access=LOCAL) == Added(ID, "present")
    # Another article of the same title.
    other = ID.replace(".md", " (2).md")
    assert add_url(f"{site.url}/2", corpus, _access=LOCAL) == Added(other, "added")
    # The keeper moved the file and wrote a question into it; the article got a new title and text.
    folder = corpus / "2024"
    folder.mkdir()
    kept = (corpus / ID).read_text("utf-8").replace("---\n", "---\nquestions: ['얼마?']\n", 1)
    (corpus / ID).unlink()
    (folder / "돌봄.md").write_text(kept, "utf-8")
    site.pages["/1"] = ("text/html", page.replace("시작", "개시").replace("48억", "50억").encode())
    assert add_url(f"{site.url}/1", corpus, _access=LOCAL) == Added("2024/돌봄.md", "replaced")
    document = loaders.load((folder / "돌봄.md").read_bytes(), "2024/돌봄.md")
    assert "50억" in document.text and document.questions == ("얼마?",)
    assert "개시" in document.title
    assert listed(corpus) == ["2024", "2024/돌봄.md", other]


def test_other_formats_are_kept_as_they_are(site: Site, corpus: Path) -> None:
    site.pages["/data/%EB%A9%94%EB%AA%A8.txt?v=1"] = (
        "text/plain; charset=euc-kr",
        A.encode("cp949"),
    )
    site.pages["/old.txt"] = ("text/plain; charset=johab", B.encode("johab"))
    site.pages["/"] = ("text/markdown", B.encode())
    site.pages["/empty"] = ("text/html", b"<html><body><script>x</script></body></html>")
    assert add_url(f"{site.url}/data/메모.txt?v=1", corpus, _access=LOCAL).id == "메모.txt"
    assert loaders.load((corpus / "메모.txt").read_bytes(), "메모.txt").text == A
    # Nobody could guess this one; what is kept is in UTF-8.
    assert add_url(f"{site.url}/old.txt", corpus, _access=LOCAL).id == "old.txt"
    assert loaders.load((corpus / "old.txt").read_bytes(), "old.txt").text == B
    assert add_url(f"{site.url}/", corpus, _access=LOCAL).id == "news.example.md"
    with pytest.raises(FetchFailed, match=r"/empty gives no text: .*\.$"):
        add_url(f"{site.url}/empty", corpus, _access=LOCAL)
    assert listed(corpus) == ["news.example.md", "old.txt", "메모.txt"]


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("article.pdf", "application/pdf"), ("article.hwp", "application/x-hwp"),
        ("article.hwp", "application/octet-stream"), ("article.hwpx", "application/hwp+zip"),
        ("article.hwpx", "application/zip"), ("article.docx", "application/x-msdownload;"),
    ],
)  # fmt: skip
def test_office_files_of_the_web(name: str, content_type: str, site: Site, corpus: Path) -> None:
    data = (Path(__file__).parent / "data" / name).read_bytes()
    site.pages[f"/files/{name}"] = (content_type, data)
    assert add_url(f"{site.url}/files/{name}", corpus, _access=LOCAL) == Added(name, "added")
    assert (corpus / name).read_bytes() == data
    other = ".pdf" if name.endswith(".docx") else ".docx"
    with pytest.raises(LoadFailed, match="the file is "):
        add_upload(f"other{other}", data, corpus)
    with pytest.raises(LoadFailed):
        add_upload(f"cut{Path(name).suffix}", data[: len(data) // 3], corpus)
    assert listed(corpus) == [name]


def test_the_page_of_an_address_cannot_stand_in_for_another(site: Site, corpus: Path) -> None:
    """A canonical address is what a page says of itself; only where it came from counts."""
    mine = f"{site.url}/1"
    page = ARTICLE.format(charset="utf-8")
    site.pages["/1"] = ("text/html", page.encode())
    link = f'<link rel="canonical" href="{mine}"><meta property="og:url" content="{mine}"><title>'
    site.pages["/evil"] = ("text/html", page.replace("<title>", link).replace("48", "0").encode())
    add_url(mine, corpus, _access=LOCAL)
    before = (corpus / ID).read_bytes()
    assert add_url(f"{site.url}/evil", corpus, _access=LOCAL).outcome == "added"
    assert (corpus / ID).read_bytes() == before


# --- the verb ------------------------------------------------------------------------------------


def test_some_come_in_and_the_rest_is_named(
    site: Site, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(A, "utf-8")
    (tmp_path / "메모: 하나.txt").write_text(B, "utf-8")
    (tmp_path / "note: two.txt").write_text(A + B, "utf-8")
    (tmp_path / "b.exe").write_bytes(b"MZ")
    site.pages["/1"] = ("text/html", ARTICLE.format(charset="utf-8").encode())
    sources = ["a.txt", "b.exe", f"{site.url}/1", f"{site.url}/404", "http://127.0.0.1/", "none.txt",
               "메모: 하나.txt", "note: two.txt", "javascript:alert(1)", "file:///etc/hosts",
               "www.example.com/a"]  # fmt: skip
    seen: list[tuple[int, int, str]] = []
    added, failed = add(sources, corpus, lambda *now: seen.append(now), _access=LOCAL)
    assert [one.id for one in added] == ["a.txt", ID, "메모 하나.txt", "note two.txt"]
    assert list(failed) == ["b.exe", f"{site.url}/404", "http://127.0.0.1/", "none.txt",
                            "javascript:alert(1)", "file:///etc/hosts", "www.example.com/a"]  # fmt: skip
    assert all(source in reason for source, reason in failed.items())
    assert "https://" in failed["www.example.com/a"]
    assert [now[2] for now in seen] == sources


def test_rebuilds_of_one_process_wait_for_each_other(corpus: Path, tmp_path: Path) -> None:
    intake.add_text("", "강변에는 오래된 나루가 있다.", corpus)
    forum = ForumQA(tmp_path / "index", corpus)
    outcomes: list[int | str] = []

    def other() -> None:
        try:
            outcomes.append(forum.rebuild().generation)
        except ForumQAError as error:
            outcomes.append(str(error))

    second = threading.Thread(target=other)

    def progress(*_: object) -> None:
        if not second.ident:
            second.start()
            second.join(0.3)  # time enough to be refused

    first = forum.rebuild(progress=progress)
    second.join()
    assert outcomes == [first.generation + 1]


def test_the_engine_adds_and_answers(corpus: Path, tmp_path: Path) -> None:
    forum = ForumQA(tmp_path / "index", corpus)
    (tmp_path / "a.txt").write_text(A, "utf-8")
    report = forum.add([str(tmp_path / "a.txt"), str(tmp_path / "none.txt")])
    assert isinstance(report, AddReport) and report.build
    assert report.added == report.build.added == ("a.txt",) and len(report.failed) == 1
    assert forum.ask("도서관 관장은 누구인가?").citations[0].document_id == "a.txt"
    assert forum.add([str(tmp_path / "a.txt")]).present == ("a.txt",)
    nothing = forum.add(["none.txt"])
    assert nothing.build is None and forum.info()["generation"] == 2
    (tmp_path / "b.txt").write_text(B, "utf-8")
    with (
        store.writer_lock(tmp_path / "index"),
        pytest.raises(IndexLocked, match="forumqa rebuild"),
    ):
        forum.add([str(tmp_path / "b.txt")])
    assert (corpus / "b.txt").exists()


def test_the_command(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text(A, "utf-8")
    folders = ["--corpus", str(corpus), "--index", str(tmp_path / "index")]
    local = "http://127.0.0.1:80/latest/meta-data"
    assert main(["add", str(tmp_path / "a.txt"), local, *folders]) == 0
    out, err = capsys.readouterr()
    assert (
        "added: a.txt" in out
        and err.startswith(f"forumqa: {local} leads to")
        and "a.txt" not in err
    )
    assert main(["add", str(tmp_path / "a.txt"), "--json", *folders]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["present"], report["added"], report["failed"]) == (["a.txt"], [], {})
    assert report["build"]["unchanged"] == ["a.txt"]
    assert main(["add", local, *folders]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert main(["add", "a.txt", "--corpus", str(tmp_path / "no"), *folders[2:]]) == 1
    assert "no folder" in capsys.readouterr().err
