"""What the keeper of the material does: list, remove, roll back, verify, watch."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from forumqa import cli, indexer, store
from forumqa.engine import ForumQA
from forumqa.schema import BuildReport, ForumQAError, IndexMissing, LoadFailed
from forumqa.watcher import Watcher
from tests.conftest import HashEmbedder
from tests.test_index import A, B, build


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text(A, "utf-8")
    return folder


def test_list(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = tmp_path / "index"
    (corpus / "broken.txt").write_bytes(b"\x00")
    (corpus / "b.md").write_text(f"---\ntitle: 다리\ndate: 2025-01-02\nsource: 나루일보\n---\n{B}")
    ForumQA(index, corpus).rebuild()
    (corpus / "a.txt").write_bytes(b"")
    ForumQA(index, corpus).rebuild()
    assert cli.main(["list", "--index", str(index), "--json"]) == 0
    entries = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(entries) == ["a.txt", "b.md", "broken.txt"]
    assert (entries["a.txt"]["state"], entries["a.txt"]["passages"]) == ("failed", 1)
    assert "empty" in entries["a.txt"]["reason"]
    assert entries["b.md"] | {"state": "ok"} == entries["b.md"]
    assert [entries["b.md"][name] for name in ("title", "date", "source")] == [
        "다리", "2025-01-02", "나루일보"
    ]  # fmt: skip
    assert (entries["broken.txt"]["state"], entries["broken.txt"]["passages"]) == ("failed", 0)
    assert cli.main(["list", "--index", str(index)]) == 0
    assert "b.md\t다리\t2025-01-02\t나루일보\t1\tok" in capsys.readouterr().out


def test_remove(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text(B, "utf-8")
    (corpus / "sub").mkdir()
    (corpus / "sub" / "linked.txt").symlink_to(outside)
    (corpus / "b.txt").write_text(B + " 셋째 문장이다.", "utf-8")
    forum = ForumQA(tmp_path / "index", corpus)
    forum.rebuild()
    for unknown in ("../outside.txt", str(outside), "/etc/passwd", "sub", "b", ""):
        with pytest.raises(ForumQAError, match="holds no document"):
            forum.remove(["a.txt", unknown])
    with pytest.raises(ForumQAError, match=r"the nearest: .*linked\.txt"):
        forum.remove(["linked.txt"])
    assert (corpus / "a.txt").exists(), "one unknown id, and another was deleted"
    arguments = ["remove", "sub/linked.txt", "b.txt", "--index", str(tmp_path / "index")]
    assert cli.main([*arguments, "--corpus", str(corpus), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["removed"] == ["b.txt", "sub/linked.txt"] and report["unchanged"] == ["a.txt"]
    assert outside.read_text("utf-8") == B, "a link's target was deleted"
    assert not (corpus / "sub" / "linked.txt").is_symlink() and not (corpus / "b.txt").exists()
    assert forum.document("b.txt") is None


def test_rollback(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = tmp_path / "index"
    keeper, reader = ForumQA(index, corpus), ForumQA(index)
    keeper.rebuild()
    with pytest.raises(ForumQAError, match="No sound generation before 1"):
        keeper.rollback()
    (corpus / "b.txt").write_text(B, "utf-8")
    keeper.rebuild()
    assert reader.document("b.txt") is not None
    assert cli.main(["rollback", "--index", str(index), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"generation": 1}
    assert reader.document("b.txt") is None, "a running chat did not pick it up"
    assert cli.main(["rollback", "--index", str(index)]) == 1
    assert "No sound generation before 1" in capsys.readouterr().err
    (corpus / "c.txt").write_text("다온읍에 우체국이 생겼다.", "utf-8")
    report = keeper.rebuild()
    assert report.generation == 3, "a number was used twice"
    assert report.added == ("b.txt", "c.txt"), "not built on the live generation"
    assert keeper.rollback() == 1 and reader.document("b.txt") is None
    assert sorted(p.name for p in (index / "generations").iterdir()) == ["000001", "000003"]


def test_rollback_passes_a_damaged_generation_over(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder
) -> None:
    index = tmp_path / "index"
    for _ in range(2):
        build(corpus, index, embedder)
    (index / "generations" / "000001" / "extras.jsonl").unlink()
    with store.writer_lock(index), pytest.raises(ForumQAError, match="nothing was changed"):
        store.roll_back(index)
    assert store.current(index) == 2


def test_verify_names_every_damaged_byte(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    with pytest.raises(IndexMissing):
        ForumQA(index).verify()
    for _ in range(2):
        build(corpus, index, embedder)
    verify = ["verify", "--index", str(index)]
    assert cli.main(verify) == 0
    assert capsys.readouterr().out == "generation 1: sound\ngeneration 2 (live): sound\n"
    for number in (1, 2):
        folder = index / "generations" / f"{number:06d}"
        for path in sorted(folder.iterdir()):
            good = path.read_bytes()
            for at in (0, len(good) // 2, len(good) - 1):
                path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
                checks = ForumQA(index).verify()
                assert bool(checks[number - 1].problem), f"{path.name}, byte {at}"
                assert "forumqa rebuild" in checks[number - 1].problem
                assert cli.main(verify) == (1 if number == 2 else 0)
            path.write_bytes(good[:-1])
            assert ForumQA(index).verify()[number - 1].problem, f"{path.name} cut short"
            path.unlink()
            assert path.name in ForumQA(index).verify()[number - 1].problem
            path.write_bytes(good)
    for pointer in ("", "what\n", "000009\n"):
        (index / "CURRENT").write_text(pointer)
        assert cli.main(verify) == 1
    (index / "CURRENT").unlink()
    assert cli.main([*verify, "--json"]) == 1
    out = capsys.readouterr().out
    last = json.loads(out[out.rindex("[") :])[-1]
    assert last["live"] and "CURRENT is missing" in last["problem"]


# --- what a rebuild reads -------------------------------------------------------------------------


def stamped(monkeypatch: pytest.MonkeyPatch, age: float) -> None:
    """Give every file one stamp that never changes, so old in seconds at the first build."""
    real, when = indexer.scan, time.time_ns() - int(age * 1e9)

    def scan(corpus: Path) -> indexer.Scan:
        found = real(corpus)
        found.stamps = dict.fromkeys(found.stamps, f"{when}:{when}:10:1")
        return found

    monkeypatch.setattr(indexer, "scan", scan)


def test_a_settled_stamp_saves_reading(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamped(monkeypatch, age=60)
    build(corpus, tmp_path / "index", embedder)
    read: list[str] = []
    real = indexer._read
    monkeypatch.setattr(indexer, "_read", lambda path: (read.append(path), real(path))[1])
    (corpus / "b.txt").write_text(B, "utf-8")
    assert build(corpus, tmp_path / "index", embedder).added == ("b.txt",)
    assert [Path(path).name for path in read] == ["b.txt"]


def test_a_file_written_within_the_tick_of_a_build_is_read_again(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamped(monkeypatch, age=0.5)
    build(corpus, tmp_path / "index", embedder)
    (corpus / "a.txt").write_text(B, "utf-8")
    assert build(corpus, tmp_path / "index", embedder).changed == ("a.txt",)


def test_real_stamps_tell_a_changed_file(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "_CLOCK", -(10**12))  # every stamp vouches
    build(corpus, tmp_path / "index", embedder)
    assert build(corpus, tmp_path / "index", embedder).unchanged == ("a.txt",)
    other = A.replace("박하늘", "김바다")
    new = corpus / "new"
    new.write_text(other, "utf-8")
    new.replace(corpus / "a.txt")  # the same size, another file
    assert build(corpus, tmp_path / "index", embedder).changed == ("a.txt",)


# --- watching -----------------------------------------------------------------------------------


class Folder:
    """Stamps and rebuilds by hand."""

    def __init__(self) -> None:
        self.stamps: Mapping[str, str] = {}
        self.builds: list[Mapping[str, str]] = []
        self.failure: Exception | None = None

    def rebuild(self) -> None:
        self.builds.append(self.stamps)
        if self.failure:
            raise self.failure


def test_the_watch_waits_until_the_folder_has_come_to_rest(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder()
    watcher = Watcher(lambda: folder.stamps, folder.rebuild, 1.0, built={})
    assert [watcher.step() for _ in range(3)] == [False, False, False]
    for size in ("1", "2", "3"):  # a file being copied in
        folder.stamps = {"a.txt": size}
        assert not watcher.step() and not folder.builds
    assert watcher.step() and folder.builds == [{"a.txt": "3"}]
    assert not watcher.step()
    folder.failure = LoadFailed("the disk is full")
    folder.stamps = {}
    with caplog.at_level(logging.WARNING):
        assert [watcher.step(), watcher.step()] == [False, True]
        assert watcher.problem == "the disk is full" and "the disk is full" in caplog.text
        assert not watcher.step(), "the same failure again and again"
        folder.failure = ZeroDivisionError("a bug")
        monkeypatch.setattr("forumqa.watcher.time.monotonic", lambda: 1e12)
        assert watcher.step() and "a bug" in watcher.problem
    folder.failure = None
    monkeypatch.setattr("forumqa.watcher.time.monotonic", lambda: 2e12)
    assert watcher.step() and watcher.problem == ""


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def test_a_watched_folder_is_served_without_asking_for_it(corpus: Path, tmp_path: Path) -> None:
    forum = ForumQA(tmp_path / "index", corpus)
    forum.rebuild()
    forum.watch(0.05)
    try:
        (corpus / "b.txt").write_text(B, "utf-8")
        until(lambda: forum.document("b.txt") is not None)
        corpus.rename(tmp_path / "away")
        until(lambda: "There is no folder" in (forum.info()["watch"]["problem"] or ""))
        assert forum.ask("다리의 길이는 얼마인가?").citations
        (tmp_path / "away" / "b.txt").unlink()
        (tmp_path / "away").rename(corpus)
        until(lambda: forum.document("b.txt") is None and not forum.info()["watch"]["problem"])
    finally:
        forum.close()


def test_a_rebuild_apart_reports_like_one_here(corpus: Path, tmp_path: Path) -> None:
    (corpus / "broken.txt").write_bytes(b"\x00")
    for i in range(400):  # a report longer than a pipe holds
        (corpus / f"{'길' * 80}-{i}.txt").write_bytes(b"\x00")
    steps: list[str] = []
    apart = ForumQA(tmp_path / "apart", corpus, apart=True)
    report = apart.rebuild(progress=lambda done, total, what: steps.append(what))
    here = ForumQA(tmp_path / "here", corpus).rebuild()
    assert isinstance(report, BuildReport) and steps
    for name in BuildReport.__slots__:
        assert name == "seconds" or getattr(report, name) == getattr(here, name)
    with store.writer_lock(tmp_path / "apart"), pytest.raises(ForumQAError, match="being rebuilt"):
        apart.rebuild()
