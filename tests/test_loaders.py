"""Every format: the same text, its pages and headings; damage named; limits kept."""

from __future__ import annotations

import os
import signal
import struct
import sys
import threading
import unicodedata
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forumqa.chunking import split
from forumqa.engine import ForumQA
from forumqa.loaders import load
from forumqa.loaders.isolation import IsolatedLoader
from forumqa.schema import Document, LoadFailed
from tests import article
from tests.article import DATA, TEXT, TITLE, docx, hwp, hwpx, ole, package, paragraph, pdf, record

FILES = {
    "plain.txt": article.plain(),
    "page.md": article.markdown(),
    "page.html": article.html(),
    "euc-kr.htm": article.html("euc-kr"),
    **{path.name: path.read_bytes() for path in sorted(DATA.glob("article.*"))},
}
HWP = FILES["article.hwp"]


@pytest.mark.parametrize("name", FILES)
def test_one_article_reads_the_same_in_every_format(name: str) -> None:
    document = load(FILES[name], name)
    assert (document.title, document.text) == (TITLE, TEXT)
    if name != "plain.txt":
        assert [section.heading for section in document.sections] == article.HEADINGS
        for section in document.sections:
            assert document.text.startswith(section.heading, section.start)


def test_dates_and_addresses_come_from_the_files() -> None:
    page = load(FILES["page.html"], "page.html")
    assert (page.date, page.source) == ("2018-06-07", "https://news.example.kr/article/1234")
    assert load(FILES["article.docx"], "article.docx").date == "2018-06-07"
    assert load(FILES["article.hwp"], "article.hwp").date == "2025-09-17"
    assert load(FILES["article.hwpx"], "article.hwpx").date == "2025-09-17"


# --- pages ----------------------------------------------------------------------------------------


def test_pages_are_those_of_the_file_and_sentences_run_over_them() -> None:
    import pypdfium2

    document = load(FILES["article.pdf"], "article.pdf")
    file = pypdfium2.PdfDocument(FILES["article.pdf"])
    shown = ["".join(page.get_textpage().get_text_range().split()) for page in file]
    file.close()
    assert len(document.pages) == len(shown) == 3 and document.pages[0] == 0
    for number, start in enumerate(document.pages, 1):
        words = "".join(document.text[start : start + 40].split())[:15]
        assert words in shown[number - 1]
        assert document.page_at(start) == number and document.page_at(start - 1) in (
            None,
            number - 1,
        )
    spanning = [
        (document.page_at(a), document.page_at(b - 1))
        for passage in split(document)
        for a, b in passage.sentences
    ]
    assert any(first != last for first, last in spanning), "no sentence runs over a page"


def test_a_citation_names_the_page_where_its_quote_begins(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.pdf").write_bytes(FILES["article.pdf"])
    forum = ForumQA(tmp_path / "index", tmp_path / "corpus")
    forum.rebuild()
    (citation,) = forum.ask("시는 누리집에서 언제까지 의견을 받는가?").citations
    assert "10일까지" in citation.quote and citation.page == 3
    document = forum.document("a.pdf")
    assert document and document.pages == load(FILES["article.pdf"], "a.pdf").pages
    (first, *_) = forum.retrieve("시는 누리집에서 언제까지 의견을 받는가?")
    assert first.passage.page == document.page_at(first.passage.start)


def test_lines_become_paragraphs_and_what_runs_over_every_page_is_dropped() -> None:
    def sheet(number: int, lines: list[str]) -> list[tuple[int, int, str]]:
        body = [(20, 350 - 12 * i, line) for i, line in enumerate(lines)]
        return [(20, 385, "Garam Gazette 2018"), *body, (145, 20, f"- {number} -")]

    first = [
        "The city held a forum about its indus-",
        "trial policy, and the well-known mayor",
        "spoke once more about that same well-",
        "known plan and gave his thanks.",
        "1. The first point is short.",
        "The members then moved on to the most",
    ]
    second = ["pressing of all the questions there,", "which was who would have to pay."]
    table = [(20, 350, "Name"), (150, 350, "Area"), (20, 338, "Naru Valley"), (150, 338, "85")]
    document = load(pdf(sheet(5, first), sheet(6, second), [*table, *sheet(7, [])]), "a.pdf")
    wanted = [
        "The city held a forum about its industrial policy, and the well-known mayor spoke once more "
        "about that same well-known plan and gave his thanks.",
        "1. The first point is short.",
        "The members then moved on to the most pressing of all the questions there, which was who "
        "would have to pay.",
        "Name | Area",
        "Naru Valley | 85",
    ]
    assert document.text.split("\n\n") == wanted
    starts = [document.text.index(words) for words in ("pressing", "Name")]
    assert document.pages == (0, *starts)


@pytest.mark.parametrize(
    ("pages", "offset", "page"),
    [((), 5, None), ((0, 10), 9, 1), ((0, 10), 10, 2), ((0, 10, 10), 10, 3)],
)
def test_page_at(pages: tuple[int, ...], offset: int, page: int | None) -> None:
    assert Document("d", "t", "x" * 20, pages=pages).page_at(offset) == page


# --- text -----------------------------------------------------------------------------------------


@given(
    words=st.lists(st.text("가각힣뷁똠곽ㄱA1b ,", min_size=1), min_size=1, max_size=20),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "cp949"]),
    newline=st.sampled_from(["\n", "\r\n", "\r", "\u2028"]),
    decomposed=st.booleans(),
)
def test_plain_text_in_every_encoding(
    words: list[str], encoding: str, newline: str, decomposed: bool
) -> None:
    if encoding == "cp949":
        decomposed, newline = False, newline.replace("\u2028", "\r")
    lines = ["가나다 포럼이 열렸다.", *words, "그리고 끝났다."]
    text = newline.join(lines)
    data = unicodedata.normalize("NFD" if decomposed else "NFC", text).encode(encoding)
    if encoding.startswith("utf-16-"):
        # Once with its byte order mark, once without.
        marked = "\ufeff".encode(encoding) + data
        assert load(marked, "a.txt").text == load(data, "a.txt").text
    assert load(data, "a.txt").text.split("\n") == [unicodedata.normalize("NFC", w) for w in lines]


def test_english_of_windows_is_not_taken_for_korean() -> None:
    text = "“The forum,” he said, “isn’t over.” It went on until the evening of the next day."
    assert load(text.encode("cp1252"), "a.txt").text == text


def test_what_shows_nothing_is_taken_out_of_the_text() -> None:
    text = "가\u200b람\ue000시는 \u202e포럼을\xad 열\x07었다.\x0c다음 쪽이다."
    assert load(text.encode(), "a.txt").text == "가람시는 포럼을 열었다.\n다음 쪽이다."
    # Parts of a syllable that only meet once what stood between them is gone.
    assert load("\u1100\u200b\u1161을에 왔다.".encode(), "a.txt").text == "가을에 왔다."


# --- web pages ------------------------------------------------------------------------------------


def page(body: str, head: str = "") -> bytes:
    return f"<html><head>{head}</head><body>{body}</body></html>".encode()


LONG = "가람시는 7일 문화회관에서 산업정책 포럼을 열고 시민과 함께 지역의 앞날을 토론했다. " * 3


def test_a_page_is_decoded_by_what_it_is_and_not_only_by_what_it_says() -> None:
    text = f"<p>{LONG}뷁은 완성형에 없는 글자다.</p>"
    for charset in ("euc-kr", "ks_c_5601-1987", "utf-8", "windows-1252", "nonsense"):
        data = page(text, f'<meta charset="{charset}">').decode().encode("cp949")
        assert "뷁은 완성형에" in load(data, "a.html").text, charset
    assert "뷁은" in load(page(text, '<meta charset="euc-kr">'), "a.html").text
    utf16 = page(text, '<meta charset="utf-16">').decode().encode("utf-16")
    assert "뷁은" in load(utf16, "a.html").text
    torn = page(text * 9).decode().encode("cp949").replace("뷁".encode("cp949"), b"\x94", 1)
    assert "뷁은" in load(torn, "a.html").text


def test_western_pages_keep_their_letters() -> None:
    text = "<p>" + "The café was open, and the résumé of the day was read aloud to everyone. " * 4
    data = page(text).decode().encode("cp1252")
    assert "The café was open, and the résumé" in load(data, "a.html").text


def test_two_line_breaks_part_paragraphs() -> None:
    body = f'<div class="article-body">{LONG}<br><br>둘째 문단은 시의회가 냈다<br><br>셋째다.</div>'
    text = load(page(body), "a.html").text
    assert text.split("\n\n") == [LONG.strip(), "둘째 문단은 시의회가 냈다", "셋째다."]


def test_a_date_in_the_text_is_not_the_date_of_the_page() -> None:
    body = f"<p>{LONG}</p><p>나루밸리는 2031년 3월 1일에 문을 연다.</p>"
    assert load(page(body), "a.html").date == ""


def test_a_saved_page_remembers_its_address_and_scripts_are_no_address() -> None:
    saved = b"<!-- saved from url=(0027)https://news.example.kr/77 -->"
    assert load(saved + page(f"<p>{LONG}</p>"), "a.html").source == "https://news.example.kr/77"
    head = '<link rel="canonical" href="javascript:alert(1)">'
    assert load(page(f"<p>{LONG}</p>", head), "a.html").source == "a.html"


# --- tables, notes, what is hidden ----------------------------------------------------------------

P = "<w:p><w:r><w:t>{}</w:t></w:r></w:p>"


def test_docx_tables_notes_and_changes() -> None:
    cell = "<w:tc>{}" + P + "</w:tc>"
    merged = "<w:tcPr><w:vMerge/></w:tcPr>"
    table = (
        "<w:tbl><w:tr>" + cell.format('<w:tcPr><w:vMerge w:val="restart"/></w:tcPr>', "서울")
        + cell.format("", "10") + "</w:tr><w:tr>" + cell.format(merged, "") + cell.format("", "20")
        + "</w:tr></w:tbl>"
    )  # fmt: skip
    changed = (
        "<w:p><w:ins><w:r><w:t>새 문장이다.</w:t></w:r></w:ins><w:del><w:r><w:delText>옛 문장이다."
        '</w:delText></w:r></w:del><w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
    )
    notes = f'<w:footnotes xmlns:w="urn:w"><w:footnote w:id="2">{P.format("각주다.")}</w:footnote>'
    frame = f"<w:tbl><w:tr><w:tc>{P.format('틀 안의 글이다.')}</w:tc></w:tr></w:tbl>"
    data = docx(
        P.format("앞이다.") + table + changed + frame,
        **{"word/footnotes.xml": f"{notes}</w:footnotes>".encode()},
    )
    wanted = ["앞이다.", "서울 | 10", "서울 | 20", "새 문장이다.", "각주다.", "틀 안의 글이다."]
    assert load(data, "a.docx").text.split("\n\n") == wanted


def test_hwpx_tables_notes_and_changes() -> None:
    def para(content: str) -> str:
        return f"<hp:p><hp:run>{content}</hp:run></hp:p>"

    def cell(text: str, row: int, column: int, span: int = 1) -> str:
        return (
            f"<hp:tc><hp:subList>{para(f'<hp:t>{text}</hp:t>')}</hp:subList>"
            f'<hp:cellAddr colAddr="{column}" rowAddr="{row}"/>'
            f'<hp:cellSpan colSpan="1" rowSpan="{span}"/></hp:tc>'
        )

    table = (
        f"<hp:tbl><hp:tr>{cell('서울', 0, 0, 2)}{cell('10', 0, 1)}</hp:tr>"
        f"<hp:tr>{cell('20', 1, 1)}</hp:tr></hp:tbl>"
    )
    section = (
        para("<hp:t>앞<hp:nbSpace/>문장<hp:deleteBegin/>옛것<hp:deleteEnd/>이다.</hp:t>")
        + para(f"<hp:t>표를 본다.</hp:t>{table}")
        + para(f"<hp:ctrl><hp:header>{para('<hp:t>머리말</hp:t>')}</hp:header></hp:ctrl>")
        + para(f"<hp:ctrl><hp:footNote>{para('<hp:t>각주다.</hp:t>')}</hp:footNote></hp:ctrl>")
    )
    wanted = ["앞 문장이다.", "표를 본다.", "서울 | 10", "서울 | 20", "각주다."]
    assert load(hwpx(section), "a.hwpx").text.split("\n\n") == wanted


def test_sections_are_in_the_order_of_their_numbers() -> None:
    sections = [paragraph(f"{i}번째 구역의 글이다.") for i in range(12)]
    numbers = [
        int(line.partition("번")[0]) for line in load(hwp(*sections), "a.hwp").text.split("\n\n")
    ]
    assert numbers == list(range(12))


def test_hwp_tables_notes_and_controls() -> None:
    def control(name: str, below: bytes) -> bytes:
        return record(71, 1, name.encode()[::-1]) + below

    def cell(text: str, row: int, column: int, span: int = 1) -> bytes:
        head = struct.pack("<II4H", 1, 0, column, row, 1, span)
        return record(72, 2, head) + paragraph(text, 2)

    cells = cell("서울", 0, 0, 2) + cell("10", 0, 1) + cell("20", 1, 1)
    # An extended control takes eight places, whatever letters its parameters look like.
    tab = "\t" + "湰" * 6 + "\t"
    inline = "\x0b" + "灧" * 6 + "\x0b"
    data = hwp(
        paragraph("제목 줄", style=1)
        + paragraph(f"앞 {inline}문장이{tab}이어\n진다.\x0d")
        + paragraph("표를 본다.", below=control("tbl ", record(77, 2, bytes(8)) + cells))
        + paragraph(
            "끝이다.", below=control("head", record(72, 2, bytes(8)) + paragraph("머리말", 2))
        )
        + paragraph(
            "주다.", below=control("fn  ", record(72, 2, bytes(8)) + paragraph("각주다.", 2))
        ),
        styles=["바탕글", "개요 1"],
    )
    document = load(data, "a.hwp")
    assert document.title == "제목 줄"
    wanted = [
        "앞 문장이 이어\n진다.",
        "표를 본다.",
        "서울 | 10",
        "서울 | 20",
        "끝이다.",
        "주다.",
        "각주다.",
    ]
    assert document.text.split("\n\n") == wanted
    plain = hwp(paragraph("압축하지 않은 글이다."), flags=0, deflate=False)
    assert load(plain, "a.hwp").text == "압축하지 않은 글이다."


# --- what cannot be read --------------------------------------------------------------------------


def flagged(flags: int) -> bytes:
    at = HWP.index(b"HWP Document File") + 36
    return HWP[:at] + struct.pack("<I", flags) + HWP[at + 4 :]


def picture_pdf() -> bytes:
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]"
        b"/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\n"
        b"trailer<</Root 1 0 R>>\n"
    )


DOCTYPE = b'<!DOCTYPE a [<!ENTITY b "%s">]><a>&b;</a>' % (b"lol" * 100)
BOMB = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB_BYTES = b"".join(BOMB.compress(bytes(2**20)) for _ in range(120)) + BOMB.flush()
HEADER = b"HWP Document File".ljust(32, b"\0") + struct.pack("<II", 0x05000500, 1)

UNREADABLE = {
    "empty.pdf": (b"", "empty"),
    "blank.hwp": (b"\n \n", "empty"),
    "wordless.docx": (docx(P.format("...")), "no text"),
    "cut.docx": (FILES["article.docx"][:3000], "damaged or cut short"),
    "cut.hwpx": (FILES["article.hwpx"][:-400], "damaged or cut short"),
    "cut.hwp": (HWP[:6000], "damaged or cut short"),
    "cut.pdf": (FILES["article.pdf"][:900], "damaged or cut short"),
    "zip.hwp": (FILES["article.hwpx"], "is HWPX, not HWP; rename it to end in .hwpx"),
    "page.docx": (FILES["page.html"], "is HTML, not DOCX; rename it to end in .html"),
    "report.txt": (FILES["article.pdf"], "is PDF, not TXT; rename"),
    "old.hwp": (b"HWP Document File V3.00 \x1a\x01\x02\x03" + bytes(999), "HWP 3 document.*as HWPX"),
    "old.docx": (ole({"WordDocument": b""}), "Word 97.*save it as DOCX"),
    "table.docx": (package({"xl/workbook.xml": ""}), "Excel table.*as PDF"),
    "other.hwpx": (package({"a.txt": ""}), "zip archive; unpack"),
    "date.md": (b"---\ndate: 2018-13-45\n---\ntext", "front matter is not valid YAML"),
    "deep.md": (b"---\na: " + b"[" * 20000 + b"\n---\ntext", "front matter is not valid YAML"),
    "noise.pdf": (b"just words", "no PDF document; check its name"),
    "secret.docx": (ole({"EncryptedPackage": b"", "EncryptionInfo": b""}), "password; save it with"),
    "secret.pdf": ((DATA / "password.pdf").read_bytes(), "password; save it without one"),
    "secret.hwp": (flagged(3), "password; save it without one"),
    "secret.hwpx": (hwpx("", **{"META-INF/manifest.xml": b"<encryption-data/>"}), "password"),
    "locked.hwp": (flagged(5), "distribution .배포용 문서."),
    "drm.hwp": (flagged(17), "rights system"),
    "scan.pdf": (picture_pdf(), "pictures of pages and no text.*OCR"),
    "nothing.html": (b"<html></html>", "no text|no article"),
    "bomb.docx": (package({"word/document.xml": b" " * 130 * 2**20}), "unpacks to over"),
    "bomb.hwp": (ole({"FileHeader": HEADER, "DocInfo": BOMB_BYTES, "BodyText/Section0": b""}),
                 "unpacks to over"),
    "entity.docx": (package({"word/document.xml": DOCTYPE}), "document type"),
    "entity.hwpx": (package({"Contents/section0.xml": DOCTYPE}), "document type"),
    "deep.docx": (docx("<w:p>" * 5000 + "</w:p>" * 5000), "nested too deep"),
    "parts.docx": (package({"word/document.xml": "", **{str(i): "" for i in range(20001)}}), "parts"),
    "deep.hwp": (hwp(b"".join(record(66, level) for level in range(300))), "damaged"),
    "pages.pdf": (picture_pdf().replace(b"[3 0 R]/Count 1", b"[" + b"3 0 R " * 2100 + b"]/Count 2100"),
                  "2100 pages, over 2000; split it"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_says_why_and_what_to_do(name: str) -> None:
    data, reason = UNREADABLE[name]
    with pytest.raises(LoadFailed, match=reason) as failed:
        load(data, name)
    assert ";" in str(failed.value) and "\n" not in str(failed.value)


def test_front_matter_that_unfolds_without_end_is_not_unfolded() -> None:
    lines = ["a0: &a0 [lol, lol]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))]
    data = "\n".join(["---", *lines, "title: *a59", "---", "# 제목", "", "본문이다."]).encode()
    document = load(data, "a.md")
    assert (document.title, document.text) == ("제목", "본문이다.")


# --- the worker -----------------------------------------------------------------------------------

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@posix
@pytest.mark.parametrize("name", sorted(set(FILES) - {"plain.txt"}))
def test_the_worker_reads_what_the_loader_reads(name: str, worker: IsolatedLoader) -> None:
    assert worker.load(FILES[name], name) == load(FILES[name], name)


@pytest.fixture(scope="module")
def worker() -> IsolatedLoader:
    return IsolatedLoader()


def test_no_worker_is_started_for_plain_text() -> None:
    loader = IsolatedLoader()
    loader.load(FILES["plain.txt"], "a.txt")
    assert loader._process is None


@posix
def test_after_a_worker_was_killed_the_next_file_loads() -> None:
    loader = IsolatedLoader()
    wanted = loader.load(FILES["article.hwp"], "a.hwp")
    assert loader._process
    os.kill(loader._process.pid, signal.SIGKILL)
    assert loader.load(FILES["article.hwp"], "a.hwp") == wanted
    loader.close()


@posix
def test_a_reader_that_hangs_is_ended_and_the_next_file_loads() -> None:
    loader = IsolatedLoader(seconds=1)
    loader.load(FILES["article.hwp"], "a.hwp")
    hanging = loader._process
    assert hanging
    os.kill(hanging.pid, signal.SIGSTOP)
    with pytest.raises(LoadFailed, match="took over 1 seconds; split it"):
        loader.load(FILES["article.hwp"], "a.hwp")
    assert hanging.returncode == -signal.SIGKILL
    loader._seconds = 60
    assert loader.load(FILES["article.hwp"], "a.hwp").text == TEXT
    loader.close()


def test_a_reader_that_crashes_at_once_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = IsolatedLoader()
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "false" if os.name != "nt" else "where")
        with pytest.raises(LoadFailed, match="crashed on the file; open"):
            loader.load(FILES["article.hwp"], "a.hwp")
    assert loader.load(FILES["article.hwp"], "a.hwp").text == TEXT
    loader.close()


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_a_reader_without_memory_is_named_and_the_next_file_loads() -> None:
    loader = IsolatedLoader(megabytes=100)
    data = package({"word/document.xml": b"<a>" + b"<b/>" * 900_000 + b"</a>"})
    with pytest.raises(LoadFailed, match="over 100 MiB of memory; open"):
        loader.load(data, "a.docx")
    assert loader.load(FILES["article.docx"], "a.docx").text == TEXT
    loader.close()


def test_threads_have_workers_of_their_own() -> None:
    texts: list[str] = []

    def read() -> None:
        loader = IsolatedLoader()
        texts.append(loader.load(FILES["article.docx"], "a.docx").text)
        loader.close()

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [TEXT] * 3


def test_a_folder_with_bad_files_is_built_from_the_good_ones(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    names = ["cut.hwp", "scan.pdf", "bomb.docx"]
    for name in names:
        (corpus / name).write_bytes(UNREADABLE[name][0])
    (corpus / "good.hwpx").write_bytes(FILES["article.hwpx"])
    report = ForumQA(tmp_path / "index", corpus).rebuild()
    assert report.added == ("good.hwpx",) and set(report.failed) == set(names)
