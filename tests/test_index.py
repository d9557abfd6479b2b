"""Generations: incremental, atomic, verified."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from forumqa import indexer, store
from forumqa.engine import ForumQA
from forumqa.schema import (
    BuildReport,
    EmbedderMismatch,
    IndexBroken,
    IndexLocked,
    IndexMissing,
    Settings,
)
from tests.conftest import HashEmbedder

A = "가람시는 도서관을 열었다. 관장은 박하늘 씨다."
B = "나루군은 다리를 놓았다. 길이는 120미터다."


def build(corpus: Path, index: Path, embedder: HashEmbedder) -> BuildReport:
    with store.writer_lock(index):
        try:
            previous = store.open_live(index)
        except IndexMissing:
            previous = None
        return indexer.rebuild(corpus, index, embedder, previous)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text(A, "utf-8")
    return folder


def same(one: store.Snapshot, other: store.Snapshot) -> bool:
    files = [store._encode(s) for s in (one, other)]
    names = set(files[0]) - {"lexical.npz"}
    arrays = [
        (s.lexical.words, s.lexical.passages, s.lexical.pair_rows, s.tokens) for s in (one, other)
    ]
    kinds = np.array_equal(one.kinds, other.kinds)
    return (
        kinds
        and all(files[0][n] == files[1][n] for n in names)
        and all(
            np.array_equal(x.values, y.values) and np.array_equal(x.indptr, y.indptr)
            for x, y in zip(*arrays, strict=True)
        )
    )


def test_incremental_equals_from_nothing(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder
) -> None:
    build(corpus, tmp_path / "one", embedder)
    (corpus / "b.txt").write_text(B, "utf-8")
    (corpus / "a.txt").write_text(A + " 개관식은 7일이다.", "utf-8")
    embedder.encoded.clear()
    report = build(corpus, tmp_path / "one", embedder)
    assert (report.added, report.changed, report.unchanged) == (("b.txt",), ("a.txt",), ())
    assert "가람시는 도서관을 열었다." not in embedder.encoded, "an old sentence was embedded again"
    assert report.embedded == len(embedder.encoded)
    build(corpus, tmp_path / "two", HashEmbedder())
    assert same(store.open_live(tmp_path / "one"), store.open_live(tmp_path / "two"))
    (corpus / "a.txt").unlink()
    report = build(corpus, tmp_path / "one", embedder)
    assert report.removed == ("a.txt",) and report.unchanged == ("b.txt",)


def test_a_file_that_fails_keeps_its_passages(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder
) -> None:
    index = tmp_path / "index"
    build(corpus, index, embedder)
    (corpus / "a.txt").write_bytes(b"\x00\x01")
    (corpus / "b.txt").write_bytes(b"")
    (corpus / "c.doc").write_bytes(b"x")
    report = build(corpus, index, embedder)
    assert set(report.failed) == {"a.txt", "b.txt"} and set(report.skipped) == {"c.doc"}
    assert [d.id for d in store.open_live(index).documents] == ["a.txt"]


def test_nfd_file_names_are_one_document(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder
) -> None:
    (corpus / unicodedata.normalize("NFD", "고양.txt")).write_text(B, "utf-8")
    report = build(corpus, tmp_path / "index", embedder)
    assert "고양.txt" in report.added


def test_damage_is_refused_and_the_generation_before_serves(corpus: Path, tmp_path: Path) -> None:
    forum = ForumQA(tmp_path / "index", corpus)
    forum.rebuild()
    assert forum.ask("도서관 관장은 누구인가?").citations
    (corpus / "b.txt").write_text(B, "utf-8")
    ForumQA(tmp_path / "index", corpus).rebuild()
    damaged = tmp_path / "index" / "generations" / "000002" / "dense.faiss"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    assert forum.info()["generation"] == 1 and "refused" in forum.info()["problem"]
    assert ForumQA(tmp_path / "index").info()["generation"] == 1
    for name in ("000001", "000002"):
        (tmp_path / "index" / "generations" / name / "manifest.json").unlink()
    with pytest.raises(IndexBroken, match="forumqa rebuild"):
        ForumQA(tmp_path / "index").ask("도서관?")


def test_a_running_engine_picks_the_new_generation_up(corpus: Path, tmp_path: Path) -> None:
    reader = ForumQA(tmp_path / "index", corpus)
    reader.rebuild()
    assert reader.document("b.txt") is None
    (corpus / "b.txt").write_text(B, "utf-8")
    ForumQA(tmp_path / "index", corpus).rebuild()
    assert reader.ask("다리의 길이는 얼마인가?").citations[0].document_id == "b.txt"
    generations = sorted(p.name for p in (tmp_path / "index" / "generations").iterdir())
    for _ in range(3):
        reader.rebuild()
    assert len(list((tmp_path / "index" / "generations").iterdir())) == 2, generations


def test_one_writer(corpus: Path, tmp_path: Path, embedder: HashEmbedder) -> None:
    index = tmp_path / "index"
    with (
        store.writer_lock(index),
        pytest.raises(IndexLocked, match=str(os.getpid())),
        store.writer_lock(index),
    ):
        pass
    build(corpus, index, embedder)


def test_another_model_is_a_clear_error(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder
) -> None:
    build(corpus, tmp_path / "index", embedder)
    with pytest.raises(EmbedderMismatch, match="forumqa rebuild"):
        ForumQA(tmp_path / "index", settings=Settings()).ask("도서관?")


def test_no_index_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(IndexMissing, match="forumqa rebuild"):
        ForumQA(tmp_path / "index").ask("무엇?")
