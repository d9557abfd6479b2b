from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forumqa import text as tx
from forumqa.chunking import split
from forumqa.loaders import load
from forumqa.schema import Document, LoadFailed


def sentences(text: str) -> list[str]:
    return [text[a:b] for a, b in tx.sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("포럼이 열렸다. 120명이 왔다.", ["포럼이 열렸다.", "120명이 왔다."]),
        ("포럼이 열렸다.이어 토론했다.", ["포럼이 열렸다.", "이어 토론했다."]),
        ('그는 "준비하자. 지금이다."라고 말했다. 끝났다.',
         ['그는 "준비하자. 지금이다."라고 말했다.', "끝났다."]),
        ("“좋다.”고 답했다.", ["“좋다.”고 답했다."]),
        ("3.5% 올랐다. 2018. 5. 7. 행사가 열렸다.", ["3.5% 올랐다.", "2018. 5. 7. 행사가 열렸다."]),
        ("Dr. Kim met J. K. Lee. U.S. firms agreed!", ["Dr. Kim met J. K. Lee.", "U.S. firms agreed!"]),
        ("(자세한 내용. 참고.) 다음이다.", ["(자세한 내용. 참고.)", "다음이다."]),
        ("제목 줄\n\n본문이다.", ["제목 줄", "본문이다."]),
        ("한 줄이\n이어진다.", ["한 줄이\n이어진다."]),
        ("- 하나\n- 둘", ["- 하나", "- 둘"]),
    ],
)  # fmt: skip
def test_sentences(text: str, wanted: list[str]) -> None:
    assert sentences(text) == wanted


@given(st.text(alphabet="가나다라. \n\"'“”()!?1aB", max_size=200))
def test_sentence_spans_are_ordered_and_lose_no_letter(text: str) -> None:
    spans = tx.sentence_spans(text)
    assert all(a < b for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in itertools.pairwise(spans))
    kept = "".join(ch for a, b in spans for ch in text[a:b] if ch.isalnum())
    assert kept == "".join(ch for ch in text if ch.isalnum())


@given(st.text(alphabet="가나다 .\n“”A", max_size=3000))
def test_passages_are_exact_pieces_of_the_document(text: str) -> None:
    document = Document("d", "t", text)
    previous = 0
    for passage in split(document):
        assert document.text[passage.start : passage.end] == passage.text
        assert passage.start >= previous
        assert passage.sentences[0][0] == passage.start and passage.sentences[-1][1] == passage.end
        previous = passage.end


@pytest.mark.parametrize(
    ("hangul", "letters"),
    [
        ("엘지씨엔에스", "lgcns"),
        ("에이아이", "ai"),
        ("아이티에스", "its"),
        ("케이티", "kt"),
        ("사과", ""),
    ],
)
def test_letter_names(hangul: str, letters: str) -> None:
    assert tx.spelled_letters(hangul)[0] == letters


def test_sound_keys_meet() -> None:
    for spelled in ("Jun-yeon", "Joonyeon", "Junyeon", "joon yeon"):
        assert tx.sound_key(spelled) == tx.sound_key("junyeon")
    assert tx.sound_key("Lee") == tx.sound_key("Yi") == tx.sound_key("Rhee")
    assert tx.sound_key("Goyang") != tx.sound_key("Suwon")


TEXT = "고양시 포럼\n\n고양시는 포럼을 열었다. 120명이 왔다."


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode("cp949"),
        TEXT.encode("utf-16"),
        TEXT.replace("\n", "\r\n").encode(),
        unicodedata.normalize("NFD", TEXT).encode(),
    ],
    ids=["utf-8", "bom", "cp949", "utf-16", "crlf", "nfd"],
)
def test_plain_text_reads_the_same_in_every_encoding(data: bytes) -> None:
    document = load(data, "a.txt")
    assert document.title == "고양시 포럼"
    assert document.text == "고양시는 포럼을 열었다. 120명이 왔다."


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", b"\x00\x01\x02", "binary"),
        ("a.txt", b"\xff\xff\xff\xff", "neither UTF-8 nor CP949"),
        ("a.md", b"---\ntitle: [\n---\ntext", "front matter"),
        ("a.txt", b"... !!! ...", "no text"),
        ("a.xyz", b"text", "not read"),
    ],
)
def test_bad_files_say_why(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(LoadFailed, match=reason):
        load(data, name)


def test_markdown_becomes_plain_text_with_headings() -> None:
    document = load(
        b"---\ntitle: T\ndate: 2018-06-07\nquestions:\n  - Why?\n---\n# T\n\n## Part\n\n"
        b"A **bold** [link](http://x.y) here.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "a.md",
    )
    assert (document.title, document.date, document.questions) == ("T", "2018-06-07", ("Why?",))
    assert document.text == "Part\n\nA bold link here.\n\na | b\n\n1 | 2"
    assert [s.heading for s in document.sections] == ["Part"]
    assert "Part" not in [p.text for p in split(document)]
