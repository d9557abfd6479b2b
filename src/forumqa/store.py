"""Generations on disk: the only module that touches ``index/``.

A build is written beside the others, flushed, renamed once and never changed again; then one line,
``CURRENT``, is replaced. Readers see the old generation or the new one, whatever happens to the
writer between. No pickle: text, JSON, npy arrays without objects, and FAISS's own bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from forumqa.dense import DenseIndex
from forumqa.duplicates import Copies
from forumqa.lexical import LexicalIndex, Ragged, Word
from forumqa.schema import (
    Document,
    ForumQAError,
    GenerationCheck,
    IndexBroken,
    IndexLocked,
    IndexMissing,
    IndexNotWritten,
    Passage,
)
from forumqa.text import language_of

log = logging.getLogger(__name__)

FORMAT_VERSION = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation, whole and read-only; a question holds one from start to end.

    Row i of ``dense`` and of ``lexical.words`` is sentence i, and after the sentences come
    ``extras``: the distinct titles and headings. ``sentence_passage`` and ``passage_document``
    give the passage of each sentence and the document of each passage, both ascending. ``tokens``
    are those of the units (no rows where the embedder has none); ``kinds`` is the mask of what each
    unit shows (see ``answertype``); ``language`` is that of most of the material. A
    document that is a near copy of another has no passages: ``copies``.
    """

    generation: int
    manifest: dict[str, Any]
    documents: list[Document]
    passages: list[Passage]
    extras: list[str]
    sentence_passage: NDArray[np.int32]
    passage_document: NDArray[np.int32]
    lexical: LexicalIndex
    dense: DenseIndex
    tokens: Ragged
    kinds: NDArray[np.uint16]
    language: str
    copies: Copies
    bytes: int = 0

    def also(self, document: int) -> tuple[str, ...]:
        """Return the ids of the near copies of a document."""
        return tuple(self.documents[i].id for i in self.copies.of(document))

    def sentence(self, row: int) -> tuple[Passage, int, int]:
        """Return the passage of a sentence and the sentence's offsets in its document."""
        at = int(self.sentence_passage[row])
        passage = self.passages[at]
        first = int(np.searchsorted(self.sentence_passage, at))
        start, end = passage.sentences[row - first]
        return passage, start, end

    def unit_texts(self) -> list[str]:
        """Return the text of every unit, sentences first."""
        texts = []
        for passage in self.passages:
            for start, end in passage.sentences:
                texts.append(passage.text[start - passage.start : end - passage.start])
        return texts + self.extras


def main_language(documents: Sequence[Document]) -> str:
    """Return the language most of the documents' text is written in."""
    characters = {"ko": 0, "en": 0}
    for document in documents:
        known = document.language in characters
        language = document.language if known else language_of(document.text[:2000])
        characters[language] += len(document.text)
    return max(characters, key=lambda language: characters[language])


# --- writing -----------------------------------------------------------------------------------


def write_file(path: Path, data: bytes) -> None:
    """Write and flush one file to the disk."""
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # pragma: no cover - Windows flushes folder entries itself
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _written(index: Path) -> Iterator[None]:
    """Turn a full disk, a missing right and the like into one sentence."""
    try:
        yield
    except OSError as error:
        raise IndexNotWritten(
            f"The index {index} cannot be written ({error.strerror or error}); see to it and run: "
            "forumqa rebuild. What was served before goes on being served."
        ) from error


@contextmanager
def writer_lock(index: Path) -> Iterator[None]:
    """Hold the index for one writer. Raises IndexLocked at once where another holds it."""
    holder = index / "write.holder"
    with _written(index):
        index.mkdir(parents=True, exist_ok=True)
        lock = FileLock(index / "write.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise IndexLocked(
                f"The index {index} is being rebuilt by {_holder(holder)}; wait for it to end and "
                "try again."
            ) from None
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        # Only said to others; a full disk is met where it matters.
        with suppress(OSError):
            holder.write_text(
                f"process {os.getpid()} on {socket.gethostname()} since {since}", "utf-8"
            )
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def publish(index: Path, snapshot: Snapshot, manifest: dict[str, Any], before: int | None) -> int:
    """Write the snapshot as the next generation, make it the live one, return its number.

    Call it under :func:`writer_lock`. Until the last step every reader sees the old generation.
    ``before`` is the generation that is kept beside the new one, to go back to. Numbers only rise,
    over a rollback too, so that a reader never takes one generation for another.
    """
    files = _encode(snapshot)
    with _written(index):
        generations = index / "generations"
        generations.mkdir(parents=True, exist_ok=True)
        _clean(index)
        number = max([0, *_numbers(index), *_pointed(index)]) + 1
        folder = generations / f".tmp-{os.getpid()}"
        try:
            folder.mkdir()
            for name, data in files.items():
                write_file(folder / name, data)
            manifest = {
                "format": FORMAT_VERSION,
                "generation": number,
                "built": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                **manifest,
                "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            }
            manifest["checksum"] = _checksum(manifest)
            text = json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True)
            write_file(folder / "manifest.json", text.encode())
            _sync_folder(folder)
            folder.rename(generations / f"{number:06d}")
            _sync_folder(generations)
            point_to(index, number)
        except OSError:
            # Room for others on a full disk; what cannot be taken away now goes at the next build.
            _clean(index)
            if number not in _pointed(index):
                shutil.rmtree(generations / f"{number:06d}", ignore_errors=True)
            raise
    for old in _numbers(index):
        if old not in (number, before):
            shutil.rmtree(generations / f"{old:06d}", ignore_errors=True)
    return number


def point_to(index: Path, number: int) -> None:
    """Make a generation the live one."""
    pointer = index / f".CURRENT-{os.getpid()}"
    write_file(pointer, f"{number:06d}\n".encode())
    pointer.replace(index / "CURRENT")
    _sync_folder(index)


def _clean(index: Path) -> None:
    """Take away what builds left that did not come to their end."""
    for left_over in (index / "generations").glob(".tmp-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    for left_over in index.glob(".CURRENT-*"):
        left_over.unlink(missing_ok=True)


def _checksum(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "checksum"}
    text = json.dumps(rest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _pointed(index: Path) -> list[int]:
    try:
        return [current(index)]
    except (IndexMissing, IndexBroken):
        return []


def _numbers(index: Path) -> list[int]:
    return [int(p.name) for p in (index / "generations").glob("[0-9]*") if p.name.isdigit()]


def _encode(snapshot: Snapshot) -> dict[str, bytes]:
    lexical = snapshot.lexical
    documents = map(_fields, snapshot.documents)
    numbers = {document.id: i for i, document in enumerate(snapshot.documents)}
    passages = [
        [numbers[p.document_id], p.start, p.end, p.heading, p.sentences] for p in snapshot.passages
    ]
    arrays = io.BytesIO()
    np.savez(
        arrays,
        words_indptr=lexical.words.indptr,
        words=lexical.words.values,
        units_indptr=lexical.passages.indptr,
        units=lexical.passages.values,
        pairs_indptr=lexical.pair_rows.indptr,
        pairs=lexical.pair_rows.values,
        tokens_indptr=snapshot.tokens.indptr,
        tokens=snapshot.tokens.values,
        kinds=snapshot.kinds,
    )
    copies = io.BytesIO()
    np.savez(
        copies,
        first=snapshot.copies.first,
        signatures=snapshot.copies.signatures,
        compared=snapshot.copies.compared,
    )
    table = (
        "\t".join([word.stem, word.tail, " ".join(word.terms), " ".join(word.names)])
        for word in lexical.table
    )
    return {
        "documents.jsonl": _lines(json.dumps(d, ensure_ascii=False) for d in documents),
        "passages.jsonl": _lines(json.dumps(p, ensure_ascii=False) for p in passages),
        "extras.jsonl": _lines(json.dumps(e, ensure_ascii=False) for e in snapshot.extras),
        "words.tsv": _lines(table),
        "pairs.txt": _lines(lexical.pairs),
        "lexical.npz": arrays.getvalue(),
        "dense.faiss": snapshot.dense.to_bytes(),
        "copies.npz": copies.getvalue(),
    }


def _fields(document: Document) -> dict[str, Any]:
    # dataclasses.asdict copies every leaf, at ten times the cost.
    fields: dict[str, Any] = {name: getattr(document, name) for name in Document.__slots__}
    fields["sections"] = [{"start": s.start, "heading": s.heading} for s in document.sections]
    return fields


def _lines(rows: Any) -> bytes:
    return "".join(row + "\n" for row in rows).encode()


# --- reading -----------------------------------------------------------------------------------


def current(index: Path) -> int:
    """Return the number of the live generation. Raises IndexMissing or IndexBroken."""
    try:
        line = (index / "CURRENT").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise IndexMissing(
            f"There is no index in {index}; run: forumqa rebuild --index {index}"
        ) from None
    if not line.isdigit():
        raise IndexBroken(f"{index / 'CURRENT'} does not name a generation; run: forumqa rebuild")
    return int(line)


def open_live(index: Path, prepare: bool = True) -> Snapshot:
    """Open the live generation; one that fails its verification is logged and refused, and the
    newest sound one before it is opened instead. Raises IndexMissing, IndexBroken.

    Without ``prepare`` it can be built upon, and not be asked.
    """
    while True:
        live = current(index)
        failures: list[IndexBroken] = []
        for number in [live, *_before(index, live)]:
            try:
                return open_generation(index, number, prepare)
            except IndexBroken as error:
                failures.append(error)
                log.warning("%s", error)
        # A writer may have published twice meanwhile and taken what was live a moment ago away.
        if current(index) == live:
            raise failures[0]


def open_generation(index: Path, number: int, prepare: bool = True) -> Snapshot:
    """Open one generation after checking every byte of it. Raises IndexBroken."""
    try:
        manifest, files = _read(index, number)
        snapshot = _decode(number, manifest, files)
        if prepare:
            snapshot.lexical.prepare()
        return snapshot
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise IndexBroken(f"Generation {number} cannot be read ({error}); {_ADVICE}.") from error


_ADVICE = "run: forumqa rebuild"


def _read(index: Path, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return manifest and files of a generation, every byte checked. Raises IndexBroken."""
    folder = index / "generations" / f"{number:06d}"
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["format"] != FORMAT_VERSION:
            raise IndexBroken(
                f"Generation {number} has format {manifest['format']}, this version reads "
                f"{FORMAT_VERSION}; {_ADVICE}."
            )
        if manifest["checksum"] != _checksum(manifest):
            raise IndexBroken(f"manifest.json of generation {number} is damaged; {_ADVICE}.")
        files = {}
        for name, checksum in manifest["files"].items():
            files[name] = (folder / name).read_bytes()
            if hashlib.sha256(files[name]).hexdigest() != checksum:
                raise IndexBroken(f"{name} of generation {number} is damaged; {_ADVICE}.")
        return manifest, files
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise IndexBroken(f"{missing} of generation {number} is missing; {_ADVICE}.") from None
    except OSError as error:
        raise IndexBroken(
            f"Generation {number} cannot be read ({error.strerror or error}); {_ADVICE}."
        ) from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise IndexBroken(
            f"manifest.json of generation {number} is damaged ({error}); {_ADVICE}."
        ) from error


def _before(index: Path, number: int) -> list[int]:
    """Return the generations before one, newest first."""
    return sorted((n for n in _numbers(index) if n < number), reverse=True)


def roll_back(index: Path) -> int:
    """Make the newest sound generation before the live one live, and return its number.

    Call it under :func:`writer_lock`. Raises ForumQAError where there is none.
    """
    live = current(index)
    for number in _before(index, live):
        try:
            open_generation(index, number, prepare=False)
        except IndexBroken as error:
            log.warning("%s", error)
            continue
        with _written(index):
            point_to(index, number)
        return number
    raise ForumQAError(
        f"No sound generation before {live} is kept in {index}, so nothing was changed; to go "
        "further back, put the articles of then into the corpus folder and run: forumqa rebuild"
    )


def verify(index: Path) -> tuple[GenerationCheck, ...]:
    """Check every byte of every kept generation, oldest first.

    A pointer that names none of them is the problem of a generation of its own. Raises
    IndexMissing where there is no index at all.
    """
    numbers = sorted(_numbers(index))
    pointer = ""
    try:
        live = current(index)
    except IndexMissing:
        if not numbers:
            raise
        live, pointer = 0, f"{index / 'CURRENT'} is missing; {_ADVICE}."
    except IndexBroken as error:
        live, pointer = 0, str(error)
    checks = []
    for number in numbers:
        problem = ""
        try:
            open_generation(index, number, prepare=False)
        except IndexBroken as error:
            problem = str(error)
        checks.append(GenerationCheck(number, number == live, problem))
    if pointer or live not in numbers:
        gone = f"CURRENT names generation {live}, which is not there; {_ADVICE}."
        checks.append(GenerationCheck(live, True, pointer or gone))
    return tuple(checks)


def _decode(number: int, manifest: dict[str, Any], files: dict[str, bytes]) -> Snapshot:
    documents = []
    for line in files["documents.jsonl"].decode().splitlines():
        documents.append(Document.from_dict(json.loads(line)))
    passages: list[Passage] = []
    owners: list[int] = []
    counts: list[int] = []
    for line in files["passages.jsonl"].decode().splitlines():
        owner, start, end, heading, sentences = json.loads(line)
        document = documents[owner]
        spans = tuple(map(tuple, sentences))
        identity = f"{document.id}#{start}-{end}"
        body, page = document.text[start:end], document.page_at(start)
        passages.append(Passage(identity, document.id, body, start, end, heading, page, spans))
        owners.append(owner)
        counts.append(len(spans))
    table = []
    for line in files["words.tsv"].decode().split("\n")[:-1]:
        stem, tail, terms, names = line.split("\t")
        table.append(Word(stem, tail, tuple(terms.split()), tuple(names.split())))
    with np.load(io.BytesIO(files["lexical.npz"]), allow_pickle=False) as arrays:
        ragged = {
            name: Ragged(arrays[f"{name}_indptr"], arrays[name])
            for name in ("words", "units", "pairs", "tokens")
        }
        kinds = arrays["kinds"]
    with np.load(io.BytesIO(files["copies.npz"]), allow_pickle=False) as arrays:
        copies = Copies(arrays["first"], arrays["signatures"], arrays["compared"])
    pairs = files["pairs.txt"].decode().split("\n")[:-1]
    return Snapshot(
        generation=number,
        manifest=manifest,
        documents=documents,
        passages=passages,
        extras=[json.loads(line) for line in files["extras.jsonl"].decode().splitlines()],
        sentence_passage=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        passage_document=np.array(owners, np.int32),
        lexical=LexicalIndex(
            table, ragged["words"], ragged["units"], sum(counts), pairs, ragged["pairs"]
        ),
        dense=DenseIndex.from_bytes(files["dense.faiss"]),
        tokens=ragged["tokens"],
        kinds=kinds,
        language=main_language(documents),
        copies=copies,
        bytes=sum(map(len, files.values())),
    )
