"""The one place where parts are chosen, wired, reloaded and locked."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
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
    ForumQAError,
    Generator,
    Hit,
    IndexBroken,
    IndexLocked,
    IndexMissing,
    Message,
    Progress,
    Settings,
)

if TYPE_CHECKING:
    from forumqa.store import Snapshot

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]


def settings_from_environment() -> Settings:
    """Return the settings that ``FORUMQA_EMBEDDER``, ``FORUMQA_LLM_URL`` and the like name."""
    names = {field.name: f"FORUMQA_{field.name.upper()}" for field in fields(Settings)}
    return Settings(**{name: os.environ[key] for name, key in names.items() if os.environ.get(key)})


class ForumQA:
    """An index and what answers from it. Opens when first used; safe to share among threads.

    A rebuild in this process or another is picked up before the next question; a question that is
    being answered keeps the generation that it began with.
    """

    def __init__(self, index: StrPath = "index", corpus: StrPath = "corpus",
                 settings: Settings | None = None) -> None:  # fmt: skip
        self.index, self.corpus = Path(index), Path(corpus)
        self.settings = settings or settings_from_environment()
        self._snapshot: Snapshot | None = None
        self._refused: int | None = None
        self._embedder: Embedder | None = None
        self._generator: Generator | None = None
        self._opening = threading.RLock()

    # -- the verbs --------------------------------------------------------------------------------

    def retrieve(self, question: str, k: int = 5, *, history: Sequence[Message] = ()) -> list[Hit]:
        """Return the k passages nearest to the question, best first. Raises ForumQAError."""
        from forumqa import retrieval

        if k < 1:
            raise ForumQAError(f"k is {k}; ask for one passage or more.")
        snapshot, embedder = self._ready()
        ranking = retrieval.rank(snapshot, embedder, question, history)
        return retrieval.hits(snapshot, ranking, k)

    def ask(self, question: str, *, history: Sequence[Message] = ()) -> Answer:
        """Return the answer, made of quoted sentences, or an abstention. Raises ForumQAError."""
        return list(self.stream(question, history=history))[-1]

    def stream(self, question: str, *, history: Sequence[Message] = ()) -> Iterator[Answer]:
        """Yield the answer as it grows; the last one is complete. Raises ForumQAError."""
        from forumqa import answering, retrieval

        if not question.strip():
            raise ForumQAError("The question is empty; type one.")
        snapshot, embedder = self._ready()
        ranking = retrieval.rank(snapshot, embedder, question, history)
        hits = retrieval.hits(snapshot, ranking, 5)
        yield from answering.answer(snapshot, ranking, hits, self._language_model())

    def rebuild(
        self, corpus: StrPath | None = None, progress: Progress | None = None
    ) -> BuildReport:
        """Bring the index up to date with the corpus folder. Raises ForumQAError.

        Questions go on being answered from the generation before until the new one is in.
        """
        from forumqa import indexer, store

        with store.writer_lock(self.index):
            try:
                previous: Snapshot | None = store.open_live(self.index)
            except (IndexMissing, IndexBroken):
                previous = None
            return indexer.rebuild(
                Path(corpus) if corpus else self.corpus,
                self.index,
                self._model(),
                previous,
                progress,
            )

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
        """Return a document of the live generation, or None where it holds none of that id."""
        snapshot, _ = self._ready()
        return next((d for d in snapshot.documents if d.id == document_id), None)

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
            "passages": len(snapshot.passages),
            "sentences": len(snapshot.sentence_passage),
            "embedder": manifest["embedder"],
            "versions": manifest["versions"],
            "bytes": snapshot.bytes,
            "built": manifest["built"],
            "failed": manifest["failed"],
            "skipped": manifest["skipped"],
        }
        if live != snapshot.generation:
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
        """Let go of the index and the model."""
        with self._opening:
            self._snapshot = self._embedder = None

    # -- parts ------------------------------------------------------------------------------------

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
        """Return the live generation, opened anew where the pointer has moved."""
        from forumqa import store

        held = self._snapshot
        try:
            live = store.current(self.index)
        except ForumQAError:
            if held is not None:
                return held
            raise
        if held is not None and live in (held.generation, self._refused):
            return held
        with self._opening:
            held = self._snapshot
            if held is not None and live in (held.generation, self._refused):
                return held
            try:
                # With nothing in hand any sound generation will do; else only the new one.
                opened = (
                    store.open_live(self.index)
                    if held is None
                    else store.open_generation(self.index, live)
                )
            except IndexBroken as error:
                if held is None:
                    raise
                log.warning("%s The generation before goes on being served.", error)
                self._refused = live
                return held
            self._refused = live if opened.generation != live else None
            self._snapshot = opened
            return opened

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
