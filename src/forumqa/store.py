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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from forumqa.dense import DenseIndex
from forumqa.lexical import LexicalIndex, Ragged, Word
from forumqa.schema import (
    Document,
    IndexBroken,
    IndexLocked,
    IndexMissing,
    Passage,
)
from forumqa.text import language_of

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
KEPT_GENERATIONS = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation, whole and read-only; a question holds one from start to end.

    Row i of ``dense`` and of ``lexical.words`` is sentence i, and after the sentences come
    ``extras``: the distinct titles and headings. ``sentence_passage`` and ``passage_document``
    give the passage of each sentence and the document of each passage. ``tokens`` are those of the
    units (no rows where the embedder has none); ``language`` is that of most of the material.
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
    language: str
    bytes: int = 0

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
        characters[language_of(document.text[:2000])] += len(document.text)
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
def writer_lock(index: Path) -> Iterator[None]:
    """Hold the index for one writer. Raises IndexLocked at once where another holds it."""
    index.mkdir(parents=True, exist_ok=True)
    holder = index / "write.holder"
    lock = FileLock(index / "write.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text(encoding="utf-8").strip() if holder.exists() else "another process"
        raise IndexLocked(
            f"The index {index} is being rebuilt by {who}; wait for it to end and try again."
        ) from None
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}", "utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def publish(index: Path, snapshot: Snapshot, manifest: dict[str, Any]) -> int:
    """Write the snapshot as the next generation, make it the live one, return its number.

    Call it under :func:`writer_lock`. Until the last step every reader sees the old generation.
    """
    generations = index / "generations"
    generations.mkdir(parents=True, exist_ok=True)
    for left_over in generations.glob(".tmp-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    number = max([0, *_numbers(index)]) + 1
    folder = generations / f".tmp-{os.getpid()}"
    folder.mkdir()
    files = _encode(snapshot)
    for name, data in files.items():
        write_file(folder / name, data)
    manifest = {
        "format": FORMAT_VERSION,
        "generation": number,
        "built": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **manifest,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True)
    write_file(folder / "manifest.json", text.encode())
    _sync_folder(folder)
    folder.rename(generations / f"{number:06d}")
    _sync_folder(generations)
    point_to(index, number)
    for old in sorted(_numbers(index))[:-KEPT_GENERATIONS]:
        shutil.rmtree(generations / f"{old:06d}", ignore_errors=True)
    return number


def point_to(index: Path, number: int) -> None:
    """Make a generation the live one."""
    pointer = index / f".CURRENT-{os.getpid()}"
    write_file(pointer, f"{number:06d}\n".encode())
    pointer.replace(index / "CURRENT")
    _sync_folder(index)


def _numbers(index: Path) -> list[int]:
    return [int(p.name) for p in (index / "generations").glob("[0-9]*") if p.name.isdigit()]


def _encode(snapshot: Snapshot) -> dict[str, bytes]:
    lexical = snapshot.lexical
    documents = [asdict(document) for document in snapshot.documents]
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
    }


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


def open_live(index: Path) -> Snapshot:
    """Open the live generation; one that fails its verification is logged and refused, and the
    newest sound one before it is opened instead. Raises IndexMissing, IndexBroken."""
    while True:
        live = current(index)
        failures: list[IndexBroken] = []
        for number in [live, *sorted((n for n in _numbers(index) if n < live), reverse=True)]:
            try:
                return open_generation(index, number)
            except IndexBroken as error:
                failures.append(error)
                log.warning("%s", error)
        # A writer may have published twice meanwhile and taken what was live a moment ago away.
        if current(index) == live:
            raise failures[0]


def open_generation(index: Path, number: int) -> Snapshot:
    """Open one generation after checking every byte of it. Raises IndexBroken."""
    folder = index / "generations" / f"{number:06d}"
    advice = "run: forumqa rebuild"
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["format"] != FORMAT_VERSION:
            raise IndexBroken(
                f"Generation {number} has format {manifest['format']}, this version reads "
                f"{FORMAT_VERSION}; {advice}."
            )
        files = {}
        for name, checksum in manifest["files"].items():
            files[name] = (folder / name).read_bytes()
            if hashlib.sha256(files[name]).hexdigest() != checksum:
                raise IndexBroken(f"{name} of generation {number} is damaged; {advice}.")
        return _decode(number, manifest, files)
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise IndexBroken(f"{missing} of generation {number} is missing; {advice}.") from None
    except (KeyError, ValueError, TypeError) as error:
        raise IndexBroken(f"Generation {number} cannot be read ({error}); {advice}.") from error


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
        spans = tuple((a, b) for a, b in sentences)
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
        language=main_language(documents),
        bytes=sum(map(len, files.values())),
    )
