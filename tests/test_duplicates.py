"""Near copies: what is one source, what is not, and what follows for answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from forumqa import duplicates, indexer, store
from forumqa.engine import ForumQA
from tests.conftest import ROOT, HashEmbedder
from tests.test_index import build, same

RELEASE = [
    "가람시는 12일 시청에서 청년 주거 지원 사업 설명회를 열고 신청을 받는다고 밝혔다.",
    "지원 대상은 만 19세부터 34세까지의 무주택 청년 1,200명이다.",
    "선정된 청년은 매달 20만 원의 월세를 최장 12개월 동안 받는다.",
    "박하늘 주거복지과장은 “청년이 집 걱정 없이 일할 수 있는 도시를 만들겠다”고 말했다.",
    "신청은 다음 달 3일부터 시청 누리집에서 할 수 있다.",
    "시는 지난해에도 같은 사업으로 800명을 도왔다.",
    "문의는 주거복지과로 하면 된다.",
]
OUTLETS = [
    "\n".join(RELEASE),
    "집값에 지친 청년에게 숨통이 트일 전망이다.\n" + "\n".join(RELEASE[:-1]),
    "\n".join(RELEASE[:-1]) + "\n가람일보 홍길동 기자 hong@garam.example 무단 전재 및 재배포 금지",
    "\n".join(RELEASE).replace("일할 수 있는", "살아갈 수 있는").replace("밝혔다", "전했다"),
    "[나루뉴스=최바다 기자] " + "\n\n".join(RELEASE[:6]) + "\n사진 제공 가람시",
]
# The same event, told by another reporter.
OTHER = (
    "청년 월세를 돕는 설명회가 12일 가람시청 대강당에서 열렸다. 300여 명이 자리를 채웠고 질문이 "
    "한 시간 넘게 이어졌다. 대학생 이솔 씨는 “보증금도 도와주면 좋겠다”고 했다. 박하늘 과장은 "
    "“청년이 집 걱정 없이 일할 수 있는 도시를 만들겠다”고 말했다. 신청 창구는 다음 달에 열린다."
)
YEARLY = "\n".join(RELEASE)
THIS_YEAR = re.sub(r"[\d,]+", lambda m: str(int(m.group().replace(",", "")) + 1), YEARLY)


def groups(texts: list[str]) -> list[int]:
    return duplicates.find(texts, range(len(texts))).first.tolist()


def test_one_release_in_five_outlets() -> None:
    assert groups(OUTLETS) == [-1, 0, 0, 0, 0]


def test_another_article_about_the_event_is_not_a_copy() -> None:
    assert groups([OUTLETS[0], OTHER, OUTLETS[0]]) == [-1, -1, 0]


def test_the_report_of_another_year_is_not_a_copy() -> None:
    assert groups([YEARLY, THIS_YEAR]) == [-1, -1]
    few = "\n".join(RELEASE[:-3])
    corrected = few.replace("20만", "25만")
    assert groups([few, corrected]) == [-1, -1], "one figure of six: in doubt both are shown"
    more = "\n".join(
        f"{word}동에서는 {i + 31}가구가 나섰다." for i, word in enumerate("가나다라마")
    )
    assert groups([few + more, corrected + more]) == [-1, 0], "a correction among eleven figures"


def test_real_articles_with_the_marks_of_an_outlet() -> None:
    """Every written article against a copy with a strange lead, a footer, a cut and an edit."""
    for language in ("ko", "en"):
        lines = (ROOT / "training/news/held-out.jsonl").read_text("utf-8").splitlines()
        articles = [[s[language] for s in json.loads(line)["sentences"]] for line in lines]
        texts = []
        for i, own in enumerate(articles):
            copy = [articles[i - 1][0], *own[:-1]]
            copy[2] = copy[2].rsplit(" ", 1)[0] + (" 전했다." if language == "ko" else " it said.")
            texts += ["\n".join(own), "\n".join([*copy, "Reporter staff@paper.example 2025"])]
        first = duplicates.find(texts, range(len(texts))).first
        found = sum(int(first[i + 1]) == i for i in range(0, len(texts), 2))
        assert found >= 0.97 * len(articles), (language, found)
        assert (first[::2] == -1).all(), "two different articles were taken for one"


def test_no_chain_joins_what_is_far_apart() -> None:
    sentences = [f"{chr(0xAC00 + 28 * i)}마을 주민 {i}명이 광장에 모였다." * 3 for i in range(20)]
    texts = [" ".join(sentences[i : i + 10]) for i in range(10)]
    first = groups(texts)
    for i, leader in enumerate(first):
        if leader >= 0:
            assert first[leader] == -1, "a first one is no copy itself"
            codes = [duplicates.shingles(duplicates._letters(texts[n])) for n in (i, leader)]
            shared = len(np.intersect1d(*codes))
            assert shared / (sum(map(len, codes)) - shared) >= duplicates.RESEMBLANCE
    assert len({i if leader < 0 else leader for i, leader in enumerate(first)}) > 1


def test_candidates_miss_nothing_that_a_full_comparison_finds() -> None:
    rng = np.random.default_rng(0)
    pool = ["".join(chr(0xAC00 + c) for c in rng.integers(0, 11172, 40)) for _ in range(300)]
    texts = [" ".join(rng.choice(pool, 12, replace=False)) for _ in range(40)]
    texts += [f"{text[:-60]} {pool[i]}" for i, text in enumerate(texts[:20])]
    first = groups(texts)
    read = [
        (duplicates.shingles(t), duplicates.figures(t)) for t in map(duplicates._letters, texts)
    ]
    for i in range(len(texts)):
        near = [j for j in range(i) if first[j] < 0 and duplicates.alike(*read[i], *read[j])]
        assert (first[i] in near) if near else first[i] == -1


def article(date: str, text: str) -> str:
    return f"---\ntitle: 설명회 소식\ndate: {date}\n---\n\n{text}\n"


@pytest.fixture
def outlets(tmp_path: Path) -> Path:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i, text in enumerate(OUTLETS):
        (corpus / f"outlet-{i}.md").write_text(article(f"2025-10-{20 - i}", text), "utf-8")
    (corpus / "other.md").write_text(article("2025-10-12", OTHER), "utf-8")
    return corpus


def test_answers_quote_the_earliest_and_name_the_others(outlets: Path, tmp_path: Path) -> None:
    forum = ForumQA(tmp_path / "index", outlets)
    forum.rebuild()
    hit, *others = forum.retrieve("지원 대상은 몇 명인가?")
    assert hit.passage.document_id == "outlet-4.md"
    assert set(hit.also) == {f"outlet-{i}.md" for i in range(4)}
    assert {h.passage.document_id for h in others} <= {"other.md"}
    answer = forum.ask("지원 대상은 몇 명인가?")
    assert [set(c.also) for c in answer.citations if c.document_id == "outlet-4.md"] == [
        set(hit.also)
    ]
    assert len(forum.documents()) == 6 and forum.document("outlet-0.md") is not None
    states = {entry.id: (entry.state, entry.duplicate_of) for entry in forum.listing()}
    assert states["outlet-0.md"] == ("duplicate", "outlet-4.md")
    assert states["outlet-4.md"] == states["other.md"] == ("ok", "")
    assert forum.info()["duplicates"] == 4


def test_groups_do_not_depend_on_the_order_of_arrival(
    outlets: Path, tmp_path: Path, embedder: HashEmbedder
) -> None:
    files = {path: path.read_bytes() for path in outlets.iterdir()}
    for path in files:
        path.unlink()
    for path in sorted(files, reverse=True):
        path.write_bytes(files[path])
        build(outlets, tmp_path / "one", embedder)
    assert store.open_live(tmp_path / "one").copies.first.tolist() == [-1, 5, 5, 5, 5, -1]
    for gone in ("outlet-4.md", "other.md"):
        (outlets / gone).unlink()
        build(outlets, tmp_path / "one", embedder)
    build(outlets, tmp_path / "two", embedder)
    one, two = store.open_live(tmp_path / "one"), store.open_live(tmp_path / "two")
    assert same(one, two) and one.copies.first.tolist() == [3, 3, 3, -1]


def test_signatures_are_carried_over(
    outlets: Path, tmp_path: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(outlets, tmp_path / "index", embedder)
    signed: list[str] = []
    compared: list[int] = []
    signature, alike = duplicates.signature, duplicates.alike
    monkeypatch.setattr(
        duplicates, "signature", lambda text: (signed.append(text), signature(text))[1]
    )
    monkeypatch.setattr(duplicates, "alike", lambda *a: (compared.append(1), alike(*a))[1])
    (outlets / "new.md").write_text(
        article("2025-10-30", "새로운 소식이다. 다리가 놓였다."), "utf-8"
    )
    build(outlets, tmp_path / "index", embedder)
    assert len(signed) == 1 and not compared


def test_measurements_see_every_document(embedder: HashEmbedder) -> None:
    documents = [indexer.Document(id=f"{i}", title="", text=text) for i, text in enumerate(OUTLETS)]
    snapshot, _ = indexer.assemble(documents, embedder)
    assert set(snapshot.passage_document.tolist()) == {0, 1, 2, 3, 4}
