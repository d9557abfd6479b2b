"""Whatever happens to a rebuild, every reader has a whole generation and the next rebuild works."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forumqa import cli, indexer, store
from forumqa.engine import ForumQA
from forumqa.schema import ForumQAError, IndexNotWritten
from tests.conftest import ROOT, HashEmbedder
from tests.test_index import A, B, build, same

QUESTION, QUOTE = "다리의 길이는 얼마인가?", "길이는 120미터다."
# Long enough that one article more is no near copy of it.
REST = "다온읍에 우체국이 생겼다. 새벽면 시장은 토요일에 열린다. 여울동 축제는 사흘 동안 이어진다."


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """All sentences stand in one file, so that a rebuild with b.txt or without analyses none."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "all.txt").write_text("\n".join([A, B, REST]), "utf-8")
    return folder


def toggle(corpus: Path) -> None:
    """Add b.txt, or take it away."""
    path = corpus / "b.txt"
    if path.exists():
        path.unlink()
    else:
        path.write_text(B, "utf-8")


class Reader:
    """Asks without a pause, one engine all the while and a fresh one now and then, and keeps what
    is not among the answers that the two states of the corpus give."""

    def __init__(self, index: Path, allowed: set[str]) -> None:
        self.index, self.allowed = index, allowed
        self.wrong: list[str] = []
        self.asked = 0
        self._stop = threading.Event()

    def __enter__(self) -> Reader:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        forum = ForumQA(self.index)
        while not self._stop.is_set():
            if self.asked % 20 == 19:
                forum = ForumQA(self.index)
            try:
                answer = forum.ask(QUESTION)
                quoted = [c.quote for c in answer.citations]
                if answer.text not in self.allowed or QUOTE not in quoted[0]:
                    self.wrong.append(answer.text)
            except Exception as error:
                self.wrong.append(repr(error))
            self.asked += 1
            time.sleep(0.002)


def both_answers(corpus: Path, folder: Path) -> set[str]:
    """Return the answers with b.txt and without, from indexes that nothing has disturbed."""
    answers = set()
    for i in range(2):
        forum = ForumQA(folder / f"clean-{i}", corpus)
        forum.rebuild()
        answers.add(forum.ask(QUESTION).text)
        toggle(corpus)
    return answers


# --- death ----------------------------------------------------------------------------------------


class Death(BaseException):
    """The end of the process; no handler of ours may catch it."""


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, fatal: int, torn: bool,
            failure: Callable[[], BaseException], deleting: bool = False) -> Iterator[None]:  # fmt: skip
    """Let the fatal-th write, flush or rename (or deletion) fail, before it or half done."""
    steps = itertools.count(1)

    def wrapped(call: Callable[..., Any], half: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if next(steps) == fatal:
                if torn:
                    half(*args)
                raise failure()
            return call(*args, **kwargs)

        return run

    def half_file(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])

    def half_folder(path: Path, **_: Any) -> None:
        next(iter(sorted(path.iterdir()))).unlink()

    def nothing(*_: Any) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_file", wrapped(store.write_file, half_file))
        patch.setattr(store, "_sync_folder", wrapped(store._sync_folder, nothing))
        patch.setattr(os, "fsync", wrapped(os.fsync, nothing))
        patch.setattr(Path, "mkdir", wrapped(Path.mkdir, nothing))
        patch.setattr(Path, "rename", wrapped(Path.rename, Path.rename))
        patch.setattr(Path, "replace", wrapped(Path.replace, Path.replace))
        if deleting:
            patch.setattr(shutil, "rmtree", wrapped(shutil.rmtree, half_folder))
        yield


@pytest.mark.parametrize("torn", [False, True])
def test_death_at_every_write_leaves_a_whole_index(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    index, embedder = tmp_path / "index", HashEmbedder()
    build(corpus, tmp_path / "without", embedder)
    toggle(corpus)
    build(corpus, tmp_path / "with", embedder)
    whole = [store.open_live(tmp_path / name) for name in ("without", "with")]
    build(corpus, index, embedder)
    build(corpus, index, embedder)
    died = 0
    for fatal in itertools.count(1):
        toggle(corpus)
        try:
            with failing(monkeypatch, fatal, torn, Death, deleting=True):
                build(corpus, index, embedder)
            break
        except Death:
            died += 1
        live = store.open_generation(index, store.current(index))
        assert any(same(live, one) for one in whole), f"neither old nor new after step {fatal}"
    assert died > 25, "too few steps were interrupted to mean anything"
    assert same(store.open_live(index), whole[(corpus / "b.txt").exists()])
    assert not list(index.glob("generations/.tmp-*")) and not list(index.glob(".CURRENT-*"))
    assert len(list((index / "generations").iterdir())) == 2


def kill_rebuilds(corpus: Path, tmp_path: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill so many ``forumqa rebuild`` at random instants while questions are asked."""
    index, rng = tmp_path / "index", random.Random(seed)
    allowed = both_answers(corpus, tmp_path)
    command = [sys.executable, "-m", "forumqa", "rebuild", "--json"]
    command += ["--index", str(index), "--corpus", str(corpus)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)

    began = time.monotonic()
    process = start()
    process.communicate()
    assert process.returncode == 0
    usual = time.monotonic() - began
    outcomes = {"killed": 0, "ended": 0, "published": 0, "left over": 0}
    with Reader(index, allowed) as reader:
        while outcomes["killed"] < kills:
            toggle(corpus)
            before = store.current(index)
            process = start()
            # Half of them where the writing is; how long the start takes varies with the machine.
            if rng.random() < 0.5:
                time.sleep(rng.uniform(0, usual * 1.1))
            else:
                deadline = time.monotonic() + 60
                while process.poll() is None and not list(index.glob("generations/.tmp-*")):
                    assert time.monotonic() < deadline
                    time.sleep(0.0005)
                time.sleep(rng.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            outcomes["ended" if process.returncode == 0 else "killed"] += 1
            outcomes["published"] += store.current(index) != before
            outcomes["left over"] += bool(list(index.glob("generations/.tmp-*")))
            assert not [check for check in store.verify(index) if check.live and check.problem]
        process = start()
        out, err = process.communicate()
        assert process.returncode == 0, err.decode()
        assert json.loads(out)["failed"] == {}
        assert not list(index.glob("generations/.tmp-*")), "left-overs were not cleared away"
    assert reader.asked > kills and reader.wrong == []
    assert ForumQA(index).ask(QUESTION).text in allowed
    return outcomes | {"asked": reader.asked}


def test_killed_at_random_instants(corpus: Path, tmp_path: Path) -> None:
    kill_rebuilds(corpus, tmp_path, kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_two_hundred_random_instants(
    corpus: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    outcomes = kill_rebuilds(corpus, tmp_path, kills=200, seed=1)
    record_property("outcomes", outcomes)
    sys.stderr.write(f"{outcomes}\n")
    assert outcomes["left over"] > 20, "too few were killed while they wrote"


# --- a full disk ------------------------------------------------------------------------------------


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("torn", [False, True])
def test_no_space_at_every_write_is_one_sentence(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    index, embedder = tmp_path / "index", HashEmbedder()
    build(corpus, index, embedder)
    build(corpus, index, embedder)
    refused = 0
    for fatal in itertools.count(1):
        toggle(corpus)
        live = store.current(index)
        try:
            with failing(monkeypatch, fatal, torn, no_space):
                build(corpus, index, embedder)
        except IndexNotWritten as error:
            refused += 1
            assert "No space left on device" in str(error) and "forumqa rebuild" in str(error)
            assert str(error).count("\n") == 0
            # Only the last flush, of the folder that holds the pointer, comes after the switch.
            assert not store.verify(index)[-1].problem
            newest = max(int(path.name) for path in (index / "generations").iterdir())
            assert newest == store.current(index), "what never went live fills the disk up"
        else:
            if store.current(index) > live:
                break
    assert refused > 20
    assert not list(index.glob("generations/.tmp-*")) and not list(index.glob(".CURRENT-*"))
    assert len(list((index / "generations").iterdir())) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk(corpus: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, ballast = small_disk / "index", small_disk / "ballast"
    forum = ForumQA(index, corpus)
    forum.rebuild()
    expected = forum.ask(QUESTION).text
    toggle(corpus)
    free = shutil.disk_usage(small_disk).free
    # A tmpfs gives out whole pages.
    files = list((index / "generations" / "000001").iterdir())
    size = sum(-(-path.stat().st_size // 4096) * 4096 for path in files)
    failed = 0
    for room in range(0, 2 * size, size // 6):
        ballast.write_bytes(b"\0" * max(0, free - room))
        status = cli.main(["rebuild", "--index", str(index), "--corpus", str(corpus)])
        error = capsys.readouterr().err
        if status == 0:
            break
        failed += 1
        assert "No space left on device" in error and error.count("\n") == 1, error
        assert ForumQA(index).ask(QUESTION).text == expected
        assert not list(index.glob("generations/.tmp-*")), "a full disk was left full"
    assert failed > 3 and status == 0
    ballast.unlink()
    assert forum.rebuild().unchanged == ("all.txt", "b.txt")


# --- two writers, many readers --------------------------------------------------------------------


def test_two_rebuilds_at_once(corpus: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    ForumQA(index, corpus).rebuild()
    started, go_on = threading.Event(), threading.Event()

    def hold(done: int, total: int, what: str) -> None:
        started.set()
        go_on.wait(60)

    first = threading.Thread(target=lambda: ForumQA(index, corpus).rebuild(progress=hold))
    first.start()
    try:
        assert started.wait(60)
        command = [sys.executable, "-m", "forumqa", "rebuild", "--index", str(index)]
        second = subprocess.run(
            [*command, "--corpus", str(corpus)], capture_output=True, text=True, cwd=ROOT
        )
        assert second.returncode == 1
        assert f"being rebuilt by process {os.getpid()} on {socket.gethostname()}" in second.stderr
        with pytest.raises(ForumQAError, match="being rebuilt by process"):
            ForumQA(index).rollback()
        assert ForumQA(index).ask(QUESTION).citations
    finally:
        go_on.set()
        first.join()
    assert store.current(index) == 2


def test_readers_across_thirty_generations(corpus: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    allowed = both_answers(corpus, tmp_path)
    keeper = ForumQA(index, corpus)
    keeper.rebuild()
    with Reader(index, allowed) as one, Reader(index, allowed) as two:
        for round_ in range(30):
            toggle(corpus)
            keeper.rebuild()
            if round_ % 7 == 6:
                keeper.rollback()
    assert one.wrong == two.wrong == [] and one.asked + two.asked > 30
    assert store.current(index) > 30


# --- the folder -----------------------------------------------------------------------------------


def test_a_removed_document_is_gone_and_its_citation_still_says_what_it_said(
    corpus: Path, tmp_path: Path
) -> None:
    (corpus / "c.txt").write_text("한빛섬에 등대가 섰다. 등대의 높이는 31미터다.", "utf-8")
    forum = ForumQA(tmp_path / "index", corpus)
    forum.rebuild()
    citation = forum.ask("등대의 높이는 얼마인가?").citations[0]
    forum.remove(["c.txt"])
    assert forum.document(citation.document_id) is None
    assert citation.quote.endswith("등대의 높이는 31미터다.")
    answer = forum.ask("등대의 높이는 얼마인가?")
    assert all(c.document_id != "c.txt" for c in answer.citations)


def test_a_renamed_file_keeps_its_vectors(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder
) -> None:
    (corpus / "c.txt").write_text("# 등대\n\n한빛섬에 등대가 섰다. 높이는 31미터다.", "utf-8")
    build(corpus, tmp_path / "index", embedder)
    embedder.encoded.clear()
    (corpus / "sub").mkdir()
    (corpus / "c.txt").rename(corpus / "sub" / "d.txt")
    report = build(corpus, tmp_path / "index", embedder)
    assert (report.added, report.removed) == (("sub/d.txt",), ("c.txt",))
    assert report.embedded == 0 and embedder.encoded == []
    build(corpus, tmp_path / "anew", embedder)
    assert same(store.open_live(tmp_path / "index"), store.open_live(tmp_path / "anew"))


@pytest.mark.timeout(60)
def test_odd_files(corpus: Path, tmp_path: Path, embedder: HashEmbedder) -> None:
    (corpus / "folder.txt").mkdir()
    (corpus / "folder.txt" / "inner.txt").write_text(B, "utf-8")
    (corpus / "loop.txt").symlink_to("loop.txt")
    (corpus / "nowhere.txt").symlink_to("gone.txt")
    (corpus / "round").symlink_to(corpus, target_is_directory=True)
    (corpus / "round.txt").symlink_to(corpus, target_is_directory=True)
    (corpus / "linked.txt").symlink_to(corpus / "all.txt")
    os.mkfifo(corpus / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(corpus)  # the path of a socket is at most a hundred bytes
        try:
            listener.bind("socket.txt")
        finally:
            os.chdir(here)
        report = build(corpus, tmp_path / "index", embedder)
    assert report.added == ("all.txt", "folder.txt/inner.txt", "linked.txt")
    assert set(report.failed) == {"loop.txt", "nowhere.txt"}
    assert "link to a file that is not there" in report.failed["nowhere.txt"]
    assert "symbolic links" in report.failed["loop.txt"]
    assert set(report.skipped) == {"pipe.txt", "socket.txt", "round", "round.txt"}
    assert "pipe" in report.skipped["pipe.txt"] and "not followed" in report.skipped["round.txt"]


@pytest.mark.timeout(60)
def test_a_pipe_put_in_place_of_a_file_does_not_hold_the_build_up(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpus / "b.txt").write_text(B, "utf-8")
    after_scan(monkeypatch, lambda: ((corpus / "b.txt").unlink(), os.mkfifo(corpus / "b.txt")))
    report = build(corpus, tmp_path / "index", embedder)
    assert report.added == ("all.txt",) and "no regular file" in report.failed["b.txt"]


def after_scan(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Change the folder once, between the look at it and the reading."""
    real = indexer.scan

    def scan(corpus: Path) -> indexer.Scan:
        found = real(corpus)
        monkeypatch.setattr(indexer, "scan", real)
        change()
        return found

    monkeypatch.setattr(indexer, "scan", scan)


def test_a_file_that_vanishes_is_removed_and_nothing_failed(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpus / "b.txt").write_text(B, "utf-8")
    build(corpus, tmp_path / "index", embedder)
    (corpus / "b.txt").write_text(B + " 끝.", "utf-8")
    after_scan(monkeypatch, (corpus / "b.txt").unlink)
    report = build(corpus, tmp_path / "index", embedder)
    assert report.removed == ("b.txt",) and not report.failed


def test_what_may_not_be_read_keeps_its_passages(
    corpus: Path, tmp_path: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpus / "sub").mkdir()
    (corpus / "sub" / "b.txt").write_text(B, "utf-8")
    build(corpus, tmp_path / "index", embedder)
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    real_scandir, real_open = os.scandir, os.open

    def scandir(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise denied
        return real_scandir(path)

    def opened(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith("all.txt"):
            raise denied
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "open", opened)
    report = build(corpus, tmp_path / "index", embedder)
    assert report.removed == () and report.failed == {
        "all.txt": "Permission denied",
        "sub/": "the folder cannot be read (Permission denied)",
    }
    assert report.unchanged == ("sub/b.txt",)
    monkeypatch.undo()
    assert [d.id for d in store.open_live(tmp_path / "index").documents] == ["all.txt", "sub/b.txt"]
    assert build(corpus, tmp_path / "index", embedder).failed == {}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_real_permissions(corpus: Path, tmp_path: Path, embedder: HashEmbedder) -> None:
    (corpus / "b.txt").write_text(B, "utf-8")
    (corpus / "b.txt").chmod(0)
    report = build(corpus, tmp_path / "index", embedder)
    assert report.failed == {"b.txt": "Permission denied"}
