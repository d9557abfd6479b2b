"""The values that flow through forumqa, the seams between its parts, and its errors.

Everything here is immutable and imports nothing but the standard library. Offsets are always
counted in Unicode code points of ``Document.text``, which is in NFC.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AnswerKind = Literal["extractive", "generated", "abstained"]


class ForumQAError(Exception):
    """Base class of every error a user can act on; its text is one sentence that says how."""


class IndexMissing(ForumQAError):
    """There is no index yet, or not where it was looked for."""


class IndexBroken(ForumQAError):
    """A generation fails its verification: a checksum, a format version, a missing file."""


class IndexLocked(ForumQAError):
    """Another process is rebuilding this index."""


class IndexNotWritten(ForumQAError):
    """The disk is full, a right is missing, or the like; the generation before goes on serving."""


class EmbedderMismatch(ForumQAError):
    """The index was built with another embedding model than the one that is set now."""


class LoadFailed(ForumQAError):
    """One file cannot be read as a document; the message says why and what to do."""


class FetchFailed(ForumQAError):
    """An address cannot be fetched, or must not be; the message says why and what to do."""


class MissingDependency(ForumQAError):
    """An optional package is needed; the message gives the install command."""


class GeneratorFailed(ForumQAError):
    """The language model that was set up could not be used."""


@dataclass(frozen=True, slots=True)
class Section:
    """A run of a document under one heading; ``start`` is where its body begins."""

    start: int
    heading: str


@dataclass(frozen=True, slots=True)
class Document:
    """One text of the material.

    ``id`` is the path relative to the corpus folder (POSIX, NFC): two files of one name in two
    folders stay apart. ``questions`` are what its keeper suggests to ask. ``pages`` are the offsets
    at which the pages begin, the first page first; empty where the format knows none.
    """

    id: str
    title: str
    text: str
    source: str = ""
    date: str = ""
    language: str = ""
    sections: tuple[Section, ...] = ()
    questions: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Document:
        """Return the document of which ``dataclasses.asdict`` made ``fields``, also through JSON.
        Raises TypeError, KeyError where it did not."""
        sections = tuple(Section(**section) for section in fields["sections"])
        questions, pages = tuple(fields["questions"]), tuple(fields["pages"])
        return cls(**{**fields, "sections": sections, "questions": questions, "pages": pages})

    def page_at(self, offset: int) -> int | None:
        """Return the number of the page on which the character at ``offset`` stands, from 1."""
        return bisect_right(self.pages, offset) or None


@dataclass(frozen=True, slots=True)
class Passage:
    """A few consecutive sentences of one document: ``document.text[start:end] == text``.

    ``sentences`` are (start, end) offsets into the document's text.
    """

    id: str
    document_id: str
    text: str
    start: int
    end: int
    heading: str = ""
    page: int | None = None
    sentences: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved passage. ``score`` is comparable within one question only; a rank is None where
    that side did not find the passage. ``also`` are the ids of documents that are near copies of
    the passage's document."""

    passage: Passage
    score: float
    title: str = ""
    source: str = ""
    lexical_rank: int | None = None
    dense_rank: int | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """A quoted span an answer rests on: ``document.text[start:end] == quote``. ``also`` are the
    ids of documents that are near copies of the document."""

    number: int
    passage_id: str
    document_id: str
    title: str
    source: str
    quote: str
    start: int
    end: int
    page: int | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``ask`` returns. ``confidence`` estimates the probability that the material holds the
    answer; an abstained answer has hits (the nearest passages) but no citations."""

    question: str
    text: str
    kind: AnswerKind
    confidence: float
    citations: tuple[Citation, ...] = ()
    hits: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a rebuild did; every name is a document id. ``failed`` maps a file to the reason."""

    generation: int
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    failed: Mapping[str, str]
    skipped: Mapping[str, str]
    passages: int
    embedded: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AddReport:
    """What adding material did. The first three hold document ids: new ones, those whose address
    was added before, and those that were there word for word. ``failed`` maps a source to a
    sentence that names it. ``build`` is the rebuild after it, or None where nothing came in."""

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    present: tuple[str, ...]
    failed: Mapping[str, str]
    build: BuildReport | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the keeper's list. A failed file may have passages still, those of its last
    reading; a duplicate is a near copy of ``duplicate_of`` and has none of its own."""

    id: str
    title: str
    date: str
    source: str
    passages: int
    state: Literal["ok", "failed", "duplicate"]
    duplicate_of: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GenerationCheck:
    """What a verification found of one generation; ``problem`` is empty where it is sound."""

    generation: int
    live: bool
    problem: str


class Message(TypedDict):
    """One earlier turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str


class Progress(Protocol):
    """Called as work goes on: how many of how many, and what is at hand."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


class Embedder(Protocol):
    """Turns text into unit vectors. ``name`` and ``fingerprint`` tell two models apart."""

    name: str
    fingerprint: str
    dimension: int

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 of shape (len(texts), dimension), rows of length one (or zero)."""

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 of shape (len(texts), dimension), rows of length one (or zero)."""


@runtime_checkable
class TokenEmbedder(Embedder, Protocol):
    """An embedder whose tokens have vectors of their own, so that words can be compared."""

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text as ``2 * id``, plus one where a word begins."""

    def vectors_of(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return float32 of shape (len(tokens), dimension), not of length one: a token's length
        is its weight."""


class Reranker(Protocol):
    """A model that reads question and text together (a cross-encoder)."""

    name: str

    def score(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one score for each text, float32 of shape (len(texts),); higher is better."""


class Generator(Protocol):
    """A language model that writes from numbered passages."""

    name: str

    def stream(self, system: str, prompt: str) -> Iterator[str]:
        """Yield the reply piece by piece. Raises GeneratorFailed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user can choose; ``engine.settings_from_environment`` fills it from ``FORUMQA_*``."""

    embedder: str = "default"
    query_prompt: str = ""
    passage_prompt: str = ""
    reranker: str = ""
    llm_url: str = ""
    llm_model: str = ""
    llm_key: str = field(default="", repr=False)
