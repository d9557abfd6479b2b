"""The one place where parts are chosen, wired, reloaded and locked."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forumqa.schema import (
    AddReport,
    Answer,
    BuildReport,
    Document,
    Embedder,
    EmbedderMismatch,
    Entry,
    ForumQAError,
    GenerationCheck,
    Generator,
    Hit,
    IndexBroken,
    IndexLocked,
    IndexMissing,
    Message,
    Progress,
    Reranker,
    Settings,
)

if TYPE_CHECKING:
    from forumqa.retrieval import Ranking
    from forumqa.store import Snapshot
    from forumqa.watcher import Watcher

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]

# A question that is the first to meet a new generation waits for it so long, in seconds: opening
# takes milliseconds for a hundred articles and seconds for ten thousand. All others go on with the
# generation in hand.
_PATIENCE = 1.0
# Meanwhile threads change places after so many seconds instead of Python's 0.005, which a question
# would wait each time that it comes back from numpy.
_SWITCH_INTERVAL = 0.0005


def settings_from_environment() -> Settings:
    """Return the settings that ``FORUMQA_EMBEDDER``, ``FORUMQA_LLM_URL`` and the like name."""
    names = {field.name: f"FORUMQA_{field.name.upper()}" for field in fields(Settings)}
    return Settings(**{name: os.environ[key] for name, key in names.items() if os.environ.get(key)})


class ForumQA:
    """An index and what answers from it. Opens when first used; safe to share among threads.

    A rebuild in this process or another is picked up by the next question (a large one as soon as
    it is opened); a question that is being answered keeps the generation that it began with. With
    ``apart``, rebuilds run in a process of their own, so that they do not slow questions down.
    """

    def __init__(self, index: StrPath = "index", corpus: StrPath = "corpus",
                 settings: Settings | None = None, *, apart: bool = False) -> None:  # fmt: skip
        self.index, self.corpus, self.apart = Path(index), Path(corpus), apart
        self.settings = settings or settings_from_environment()
        self._snapshot: Snapshot | None = None
        self._refused: int | None = None
        self._embedder: Embedder | None = None
        self._generator: Generator | None = None
        self._reranker: Reranker | None = None
        self._opening = threading.RLock()
        self._opener: threading.Thread | None = None
        self._rebuilding = 0
        self._building = threading.RLock()
        self._watcher: Watcher | None = None

    # -- the verbs --------------------------------------------------------------------------------

    def retrieve(self, question: str, k: int = 5, *, history: Sequence[Message] = ()) -> list[Hit]:
        """Return the k passages nearest to the question, best first. Raises ForumQAError."""
        from forumqa import retrieval

        if k < 1:
            raise ForumQAError(f"k is {k}; ask for one passage or more.")
        snapshot, ranking = self._rank(question, history)
        return retrieval.hits(snapshot, ranking, k)

    def ask(self, question: str, *, history: Sequence[Message] = ()) -> Answer:
        """Return the answer, made of quoted sentences, or an abstention. Raises ForumQAError."""
        return list(self.stream(question, history=history))[-1]

    def stream(self, question: str, *, history: Sequence[Message] = ()) -> Iterator[Answer]:
        """Yield the answer as it grows; the last one is complete. Raises ForumQAError."""
        from forumqa import answering, retrieval

        if not question.strip():
            raise ForumQAError("The question is empty; type one.")
        snapshot, ranking = self._rank(question, history)
        hits = retrieval.hits(snapshot, ranking, 5)
        yield from answering.answer(snapshot, ranking, hits, self._language_model())

    def rebuild(
        self, corpus: StrPath | None = None, progress: Progress | None = None
    ) -> BuildReport:
        """Bring the index up to date with the corpus folder. Raises ForumQAError.

        Questions go on being answered from the generation before until the new one is in. While
        this process rebuilds already, for a watch or a page, another waits its turn; where another
        process does, IndexLocked is raised.
        """
        folder = Path(corpus) if corpus else self.corpus
        with self._opening:
            self._rebuilding += 1
        try:
            with self._building:
                if self.apart:
                    from forumqa import worker

                    report = worker.rebuild(folder, self.index, self.settings, progress)
                else:
                    report = self._rebuild_here(folder, progress)
                self._catch_up()
        finally:
            with self._opening:
                self._rebuilding -= 1
        return report

    def _rebuild_here(self, corpus: Path, progress: Progress | None) -> BuildReport:
        from forumqa import indexer, store

        with store.writer_lock(self.index):
            previous = self._snapshot
            try:
                # What is served and what is built upon are one, unless another has rebuilt.
                if previous is None or previous.generation != store.current(self.index):
                    previous = store.open_live(self.index, prepare=False)
            except (IndexMissing, IndexBroken):
                previous = None
            return indexer.rebuild(corpus, self.index, self._model(), previous, progress)

    def listing(self) -> list[Entry]:
        """Return what the live generation holds and what could not be read, by id."""
        snapshot, _ = self._ready()
        failed: dict[str, str] = dict(snapshot.manifest["failed"])
        counts = Counter(snapshot.passage_document.tolist())
        entries = []
        for i, document in enumerate(snapshot.documents):
            first = int(snapshot.copies.first[i])
            reason = failed.pop(document.id, "")
            entries.append(
                Entry(
                    id=document.id,
                    title=document.title,
                    date=document.date,
                    source=document.source,
                    passages=counts[i],
                    state="failed" if reason else "duplicate" if first >= 0 else "ok",
                    duplicate_of=snapshot.documents[first].id if first >= 0 else "",
                    reason=reason,
                )
            )
        for name, reason in failed.items():
            entries.append(Entry(name, "", "", "", 0, "failed", reason=reason))
        return sorted(entries, key=lambda entry: entry.id)

    def remove(self, ids: Sequence[str], progress: Progress | None = None) -> BuildReport:
        """Delete the files of these documents from the corpus folder and rebuild.

        An id is looked up in the listing of the folder, never used as a path, so nothing outside it
        is touched; of a link, the link goes. Nothing is deleted where one id is unknown. Raises
        ForumQAError.
        """
        from forumqa import indexer, store

        files = indexer.scan(self.corpus).files
        try:
            known = {*files, *(entry.id for entry in self.listing())}
        except (IndexMissing, IndexBroken):
            known = set(files)
        for name in ids:
            if name not in known:
                raise ForumQAError(_unknown(name, known, self.corpus))
        # Not while another rebuilds: the files would be gone and the index would not know.
        with self._building, store.writer_lock(self.index):
            for name in ids:
                if name in files:
                    try:
                        Path(files[name]).unlink(missing_ok=True)
                    except OSError as error:
                        raise ForumQAError(
                            f"{files[name]} cannot be deleted ({error.strerror}); see to it and "
                            "try again."
                        ) from error
        return self.rebuild(progress=progress)

    def rollback(self) -> int:
        """Make the sound generation before the live one live again; return its number.

        The next rebuild builds on it, from what the corpus folder holds then. Raises ForumQAError
        where none is kept.
        """
        from forumqa import store

        with store.writer_lock(self.index):
            number = store.roll_back(self.index)
        self._catch_up()
        return number

    def verify(self) -> tuple[GenerationCheck, ...]:
        """Check every byte of every kept generation. Raises IndexMissing."""
        from forumqa import store

        return store.verify(self.index)

    def watch(self, interval: float = 5.0) -> None:
        """Rebuild in the background whenever the corpus folder has changed and come to rest.

        ``interval`` is the time between two looks in seconds. What fails is logged and shown by
        :meth:`info`.
        """
        from forumqa import indexer
        from forumqa.watcher import Watcher

        if self._watcher is None:
            try:
                built = self._current().manifest["stamps"]
            except ForumQAError:
                built = None
            self._watcher = Watcher(
                lambda: indexer.scan(self.corpus).stamps, self.rebuild, interval, built
            )
            self._watcher.start()

    def add(self, sources: Sequence[str], progress: Progress | None = None) -> AddReport:
        """Put files and web pages, by path and address, into the corpus folder and rebuild.

        A source that cannot be added is named in the report, and the others go on. Raises
        ForumQAError. It reads any file of this machine: never hand it what a page's reader typed
        (``intake.add_url`` is for that).
        """
        from forumqa import intake

        added, failed = intake.add(sources, self.corpus, progress)
        try:
            build = self.rebuild(progress=progress) if added else None
        except IndexLocked as error:
            raise IndexLocked(
                f"{error} The material is in {self.corpus} already; what is missing is: "
                f"forumqa rebuild --index {self.index}"
            ) from error
        ids = {
            outcome: tuple(dict.fromkeys(one.id for one in added if one.outcome == outcome))
            for outcome in ("added", "replaced", "present")
        }
        return AddReport(**ids, failed=failed, build=build)

    def document(self, document_id: str) -> Document | None:
        """Return a document of the live generation, or None where it holds none of that id: it was
        removed or renamed since it was quoted, or never there."""
        snapshot, _ = self._ready()
        return next((d for d in snapshot.documents if d.id == document_id), None)

    def copies(self, document_id: str) -> list[Document]:
        """Return the near copies of a document of the live generation, the earliest first."""
        snapshot, _ = self._ready()
        for at, document in enumerate(snapshot.documents):
            if document.id == document_id:
                first = int(snapshot.copies.first[at])
                first = at if first < 0 else first
                group = [first, *snapshot.copies.of(first)]
                return [snapshot.documents[i] for i in group if i != at]
        return []

    def original(self, document_id: str) -> Path | None:
        """Return the file that a document of the live generation was read from, or None where
        there is no such document, or its file is gone or a link that leads out of the corpus folder.

        The id is looked up in the listing of the folder, never used as a path.
        """
        from forumqa import indexer

        if self.document(document_id) is None:
            return None
        found = indexer.scan(self.corpus).files.get(document_id)
        path = Path(found).resolve() if found else None
        if path and path.is_relative_to(self.corpus.resolve()) and path.is_file():
            return path
        return None

    def documents(self) -> list[Document]:
        """Return the documents of the live generation."""
        return list(self._ready()[0].documents)

    def starters(self, language: str) -> list[str]:
        """Return four questions to begin with, in "ko" or "en".

        Those that the documents suggest themselves (``questions`` in the front matter) come first;
        then headings and titles make some.
        """
        from forumqa import text as tx

        snapshot, _ = self._ready()
        suggested = [q for d in snapshot.documents for q in d.questions]
        found = [q for q in suggested if tx.language_of(q) == language]
        subjects = [p.heading for p in snapshot.passages if p.heading]
        subjects += [d.title for d in snapshot.documents]
        form = "‘{}’에서 무엇을 말했나요?" if language == "ko" else "What is said in ‘{}’?"
        found += [form.format(subject) for subject in dict.fromkeys(subjects)]
        return list(dict.fromkeys(found))[:4]

    def info(self) -> dict[str, Any]:
        """Return what is served and what was built last; ``ready`` is False without an index."""
        from forumqa import store

        facts: dict[str, Any] = {
            "index": str(self.index),
            "corpus": str(self.corpus),
            "ready": False,
            "embedder": self.settings.embedder,
            "language_model": self.settings.llm_model or None,
        }
        if self._watcher is not None:
            facts["watch"] = {
                "interval": self._watcher.interval,
                "problem": self._watcher.problem or None,
            }
        try:
            live = store.current(self.index)
            snapshot = self._current()
        except ForumQAError as error:
            return facts | {"problem": str(error)}
        manifest = snapshot.manifest
        facts |= {
            "ready": True,
            "generation": snapshot.generation,
            "documents": len(snapshot.documents),
            "duplicates": int((snapshot.copies.first >= 0).sum()),
            "passages": len(snapshot.passages),
            "sentences": len(snapshot.sentence_passage),
            "embedder": manifest["embedder"],
            "versions": manifest["versions"],
            "bytes": snapshot.bytes,
            "built": manifest["built"],
            "failed": manifest["failed"],
            "skipped": manifest["skipped"],
        }
        if live == self._refused:
            facts["problem"] = (
                f"Generation {live} failed its verification and is refused; generation "
                f"{snapshot.generation} is served. Run: forumqa rebuild"
            )
        return facts

    @property
    def generator_name(self) -> str | None:
        """The language model that writes the answers, or None where they are quotes alone."""
        return self.settings.llm_model or None if self.settings.llm_url else None

    def close(self) -> None:
        """End the watch, and let go of the index and the model."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        with self._opening:
            self._snapshot = self._embedder = None

    # -- parts ------------------------------------------------------------------------------------

    def _rank(self, question: str, history: Sequence[Message]) -> tuple[Snapshot, Ranking]:
        from forumqa import retrieval

        snapshot, embedder = self._ready()
        ranking = retrieval.rank(snapshot, embedder, question, history)
        if self.settings.reranker:
            with self._opening:
                if self._reranker is None:
                    from forumqa.dense import CrossEncoderReranker

                    self._reranker = CrossEncoderReranker(self.settings.reranker)
            ranking = retrieval.rerank(snapshot, ranking, self._reranker)
        return snapshot, ranking

    def _ready(self) -> tuple[Snapshot, Embedder]:
        snapshot = self._current()
        embedder = self._model()
        built = snapshot.manifest["embedder"]
        if built["fingerprint"] != embedder.fingerprint:
            raise EmbedderMismatch(
                f"The index {self.index} was built with the embedder {built['name']!r}, and "
                f"{embedder.name!r} is set now; run: forumqa rebuild --index {self.index}"
            )
        return snapshot, embedder

    def _current(self) -> Snapshot:
        """Return the snapshot in hand; where the pointer has moved, see that it is followed."""
        from forumqa import store

        held = self._snapshot
        try:
            live = store.current(self.index)
        except ForumQAError:
            if held is not None:
                return held
            raise
        if held is None:
            with self._opening:
                if self._snapshot is None:
                    # With nothing in hand any sound generation will do; later only the live one.
                    opened = store.open_live(self.index)
                    self._refused = live if opened.generation < live else None
                    self._snapshot = opened
                return self._snapshot
        if live in (held.generation, self._refused):
            return held
        # Who rebuilds waits for what comes of it, so that no question has to.
        self._follow(0.0 if self._rebuilding else _PATIENCE)
        return self._snapshot or held

    def _catch_up(self) -> None:
        """Return when the live generation is in hand, or refused."""
        from forumqa import store

        while self._snapshot is not None:
            if store.current(self.index) in (self._snapshot.generation, self._refused):
                return
            self._follow(None)

    def _follow(self, patience: float | None) -> None:
        """Have the live generation opened by a thread; wait so long (None: to the end), but not
        where another question waits already."""
        with self._opening:
            opener, waits = self._opener, patience is None
            if opener is None:
                opener = threading.Thread(target=self._open_newer, name="forumqa-open", daemon=True)
                self._opener, waits = opener, True
                opener.start()
        if waits:
            opener.join(patience)

    def _open_newer(self) -> None:
        """Open the live generation beside the one in hand, which serves meanwhile."""
        from forumqa import store

        live = 0
        usual = sys.getswitchinterval()
        sys.setswitchinterval(min(usual, _SWITCH_INTERVAL))
        try:
            while True:
                held, live = self._snapshot, store.current(self.index)
                if held is None or live in (held.generation, self._refused):
                    break
                opened = store.open_generation(self.index, live)
                with self._opening:
                    if self._snapshot is not None:
                        self._snapshot, self._refused = opened, None
        except ForumQAError as error:
            log.warning("%s The generation before goes on being served.", error)
            self._refused = live
        except Exception:
            self._refused = live
            log.exception("Generation %s cannot be opened; the one before is served.", live)
        finally:
            sys.setswitchinterval(usual)
            with self._opening:
                self._opener = None

    def _model(self) -> Embedder:
        if self._embedder is None:
            with self._opening:
                if self._embedder is None:
                    from forumqa.dense import load_embedder

                    self._embedder = load_embedder(self.settings)
        return self._embedder

    def _language_model(self) -> Generator | None:
        if self.generator_name and self._generator is None:
            from forumqa.llm import ChatEndpoint

            self._generator = ChatEndpoint(self.settings)
        return self._generator


def _unknown(name: str, known: Collection[str], corpus: Path) -> str:
    from rapidfuzz import process

    near = [found for found, _, _ in process.extract(name, known, limit=3, score_cutoff=50)]
    nearest = f"; the nearest: {', '.join(near)}" if near else ""
    return f"{corpus} holds no document {name!r}{nearest}. List them with: forumqa list"


# --- the same verbs as functions -------------------------------------------------------------------

_engines: dict[Path, ForumQA] = {}
_engines_lock = threading.Lock()


def _engine(index: StrPath) -> ForumQA:
    path = Path(index).resolve()
    with _engines_lock:
        if path not in _engines:
            _engines[path] = ForumQA(index)
        return _engines[path]


def retrieve(question: str, k: int = 5, *, index: StrPath = "index") -> list[Hit]:
    """Return the k passages nearest to the question, best first. Raises ForumQAError."""
    return _engine(index).retrieve(question, k)


def ask(question: str, *, history: Sequence[Message] = (), index: StrPath = "index") -> Answer:
    """Return the answer, made of quoted sentences, or an abstention. Raises ForumQAError."""
    return _engine(index).ask(question, history=history)


def rebuild(corpus: StrPath = "corpus", index: StrPath = "index",
            progress: Progress | None = None) -> BuildReport:  # fmt: skip
    """Bring the index up to date with the corpus folder. Raises ForumQAError."""
    return _engine(index).rebuild(corpus, progress)
