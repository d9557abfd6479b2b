"""Corpus to generation: what changed is read, cut, analysed and embedded; the rest is carried over.

A document whose file has not changed keeps its passages; a sentence that stood in the generation
before keeps its analysis and its vector, even in a document that did change. Building A and then B
gives the same generation as building B from nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forumqa import answertype, duplicates, store
from forumqa.chunking import CHUNKER_VERSION, split
from forumqa.dense import DenseIndex
from forumqa.duplicates import DUPLICATES_VERSION, Copies
from forumqa.lexical import (
    ANALYSER_VERSION,
    EMPTY,
    Analyser,
    LexicalIndex,
    Ragged,
    Word,
    merge,
    recode,
)
from forumqa.loaders import LOADERS, LOADERS_VERSION, MAX_BYTES
from forumqa.loaders.isolation import IsolatedLoader
from forumqa.schema import (
    BuildReport,
    Document,
    Embedder,
    ForumQAError,
    LoadFailed,
    Passage,
    Progress,
    TokenEmbedder,
)
from forumqa.store import Snapshot
from forumqa.text import bigrams

# How many sentences are analysed and embedded between two reports of progress.
_BATCH = 2048


@dataclass(slots=True)
class Scan:
    """The files of a corpus folder by document id, with their stamps, and what is left out.

    A stamp is "mtime:ctime:size:inode", in nanoseconds and bytes. ``unread`` are the folders that
    could not be looked into, as prefixes of ids.
    """

    files: dict[str, str] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def rebuild(corpus: Path, index: Path, embedder: Embedder, previous: Snapshot | None,
            progress: Progress | None = None) -> BuildReport:  # fmt: skip
    """Bring ``index`` up to date with the files under ``corpus`` and publish a generation.

    Call it under ``store.writer_lock``. ``previous`` is the live generation, or None to build from
    nothing. A file that cannot be read keeps the passages it had and is named in ``failed``.
    """
    began = time.perf_counter()
    # Before the first look at any file: see _settled.
    since = time.time_ns()
    scanned = scan(corpus)
    before = previous.generation if previous is not None else None
    if previous is not None and not _compatible(previous, embedder):
        previous = None
    old = {document.id: document for document in previous.documents} if previous else {}
    old_hashes: Mapping[str, str] = previous.manifest["documents"] if previous else {}
    old_stamps: Mapping[str, str] = previous.manifest["stamps"] if previous else {}
    documents: list[Document] = []
    hashes: dict[str, str] = {}
    stamps: dict[str, str] = {}
    added: list[str] = []
    changed: list[str] = []
    failed = dict(scanned.failed)
    loader = IsolatedLoader()
    # What could not be looked at is kept as it was.
    kept = [name for name in old if name in failed or name.startswith(tuple(scanned.unread))]
    for done, name in enumerate(sorted({*scanned.files, *kept})):
        if progress:
            progress(done, len(scanned.files), name)
        stamp = scanned.stamps.get(name, "")
        try:
            if name not in scanned.files or (stamp and stamp == old_stamps.get(name)):
                document, digest = old[name], old_hashes[name]
            else:
                data = _read(scanned.files[name])
                digest = hashlib.sha256(data).hexdigest()
                if old_hashes.get(name) == digest:
                    document = old[name]
                else:
                    document = loader.load(data, name)
                    (changed if name in old else added).append(name)
        except FileNotFoundError:
            continue  # deleted since the folder was looked at
        except (LoadFailed, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            failed[name] = reason or str(error)
            if name not in old:
                continue
            document, digest, stamp = old[name], old_hashes[name], ""
        documents.append(document)
        hashes[name] = digest
        if stamp and _settled(stamp, since):
            stamps[name] = stamp
    loader.close()
    copies = _copies(documents, previous)
    snapshot, embedded = _assemble(documents, embedder, previous, progress, copies)
    touched = {*added, *changed}
    number = store.publish(
        index,
        snapshot,
        {
            "embedder": {
                "name": embedder.name,
                "dimension": embedder.dimension,
                "fingerprint": embedder.fingerprint,
            },
            "versions": _versions(),
            "documents": hashes,
            "stamps": stamps,
            "corpus": str(corpus),
            "failed": failed,
            "skipped": scanned.skipped,
        },
        before,
    )
    return BuildReport(
        generation=number,
        added=tuple(added),
        changed=tuple(changed),
        removed=tuple(sorted(set(old) - set(hashes))),
        unchanged=tuple(name for name in hashes if name not in touched and name not in failed),
        failed=failed,
        skipped=scanned.skipped,
        passages=len(snapshot.passages),
        embedded=embedded,
        seconds=time.perf_counter() - began,
    )


# The coarsest clock of a file system in use (FAT writes two seconds).
_CLOCK = 2_000_000_000


def _settled(stamp: str, since: int) -> bool:
    """Say whether a stamp vouches for what was read: git's rule against "racily clean" files.

    A file written again after it was read, within one tick of the file system's clock, has the
    same stamp. So only stamps older than the build that read the file are kept; the others are read
    and hashed once more by the next build.
    """
    mtime, ctime, _, _ = map(int, stamp.split(":"))
    return max(mtime, ctime) + _CLOCK < since


def _read(path: str) -> bytes:
    """Return the bytes of a regular file, and no more of them than a loader takes.

    A pipe put in place of a file since the folder was looked at must not hold the build up.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as handle:  # noqa: PTH123 - Path.open takes no flags
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            raise LoadFailed("it is no regular file; take it out")
        return handle.read(MAX_BYTES + 1)


def _copies(documents: Sequence[Document], previous: Snapshot | None) -> Copies:
    """Find the near copies among documents, the earliest of each group first."""
    order = sorted(
        range(len(documents)), key=lambda i: (documents[i].date or "9999", documents[i].id)
    )
    texts = [document.text for document in documents]
    if previous is None:
        return duplicates.find(texts, order)
    return duplicates.find(texts, order, previous.copies, _places(documents, previous))


def _places(documents: Sequence[Document], previous: Snapshot) -> NDArray[np.int64]:
    """Return the place of each unchanged document in the generation before, -1 for the others."""
    before = {document.id: i for i, document in enumerate(previous.documents)}
    return np.array(
        [
            i if i >= 0 and previous.documents[i] == document else -1
            for document in documents
            for i in [before.get(document.id, -1)]
        ],
        np.int64,
    )


@lru_cache(maxsize=1)
def _analyser() -> Analyser:
    """The analyser is kept for the next rebuild of this process; a served page rebuilds rarely,
    and pays with memory only once it has."""
    return Analyser()


def _versions() -> dict[str, int]:
    return {
        "analyser": ANALYSER_VERSION,
        "answer types": answertype.VERSION,
        "chunker": CHUNKER_VERSION,
        "duplicates": DUPLICATES_VERSION,
        "loaders": LOADERS_VERSION,
    }


def _compatible(snapshot: Snapshot, embedder: Embedder) -> bool:
    same_model = snapshot.manifest["embedder"]["fingerprint"] == embedder.fingerprint
    return bool(same_model and snapshot.manifest["versions"] == _versions())


def scan(corpus: Path) -> Scan:
    """Look through a corpus folder. Links to files are read, links to folders are not followed, so
    that a folder linked into itself ends. Raises ForumQAError where there is no folder."""
    if not corpus.is_dir():
        raise ForumQAError(f"There is no folder {corpus}; make it and put articles into it.")
    found = Scan()
    pending = [("", str(corpus))]
    while pending:
        prefix, folder = pending.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            found.failed[prefix or "."] = f"the folder cannot be read ({error.strerror})"
            found.unread.append(prefix)
            continue
        for entry in entries:
            name = prefix + unicodedata.normalize("NFC", entry.name)
            if entry.name.startswith((".", "~$")):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append((name + "/", entry.path))
            else:
                _note(found, name, entry)
    return found


def _note(found: Scan, name: str, entry: os.DirEntry[str]) -> None:
    if f".{entry.name.rpartition('.')[2].lower()}" not in LOADERS:
        kinds = ", ".join(sorted(LOADERS))
        found.skipped[name] = f"not one of the formats that are read ({kinds})"
        return
    try:
        facts = entry.stat()
    except FileNotFoundError:
        if entry.is_symlink():
            found.failed[name] = "a link to a file that is not there; correct it or take it out"
        return
    except OSError as error:
        found.failed[name] = f"{error.strerror}; correct it or take it out"
        return
    if stat.S_ISDIR(facts.st_mode):
        found.skipped[name] = (
            "a link to a folder, which is not followed; put the folder itself here"
        )
    elif not stat.S_ISREG(facts.st_mode):
        found.skipped[name] = "no regular file (a pipe, a socket or a device); take it out"
    elif name in found.files:
        found.failed[name] = "two files have this name; rename one of them"
    else:
        found.files[name] = entry.path
        found.stamps[name] = (
            f"{facts.st_mtime_ns}:{facts.st_ctime_ns}:{facts.st_size}:{facts.st_ino}"
        )


def assemble(documents: Sequence[Document], embedder: Embedder) -> tuple[Snapshot, int]:
    """Return a snapshot of these documents, ready to be asked and stored nowhere, and how many
    units were embedded. Near copies are left as they are."""
    copies = Copies.none(len(documents))
    snapshot, embedded = _assemble(documents, embedder, None, None, copies)
    snapshot.lexical.prepare()
    return snapshot, embedded


def _assemble(documents: Sequence[Document], embedder: Embedder, previous: Snapshot | None,
              progress: Progress | None, copies: Copies) -> tuple[Snapshot, int]:  # fmt: skip
    passages, owners, counts, reuse = _passages(documents, previous, copies)
    firsts = np.concatenate([[0], np.cumsum(counts)])
    context = [
        [text for text in (documents[owner].title, passage.heading) if text]
        for owner, passage in zip(owners.tolist(), passages, strict=True)
    ]
    extras = list(dict.fromkeys(text for row in context for text in row))
    held = {text: row for row, text in enumerate(previous.extras)} if previous else {}
    offset = len(previous.sentence_passage) if previous else 0
    reuse = np.concatenate(
        [reuse, np.array([held.get(text, -1 - offset) + offset for text in extras], np.int64)]
    )
    fresh = _fresh(passages, firsts, extras, reuse, previous)

    analysed: list[list[Word]] = []
    encoded = [np.zeros((0, embedder.dimension), np.float32)]
    if fresh:
        analyser = _analyser()
        for at in range(0, len(fresh), _BATCH):
            if progress:
                progress(at, len(fresh), f"{len(fresh)} sentences")
            batch = fresh[at : at + _BATCH]
            analysed.extend(analyser.words(batch))
            encoded.append(embedder.encode_passages(batch))
    dense = DenseIndex.build(np.concatenate(encoded))
    if previous is not None:
        dense = DenseIndex.merge(previous.dense, reuse, dense)

    old = previous.lexical if previous else None
    table, words = recode(old.table if old else [], old.words if old else EMPTY, reuse, analysed)
    pairs, pair_rows = recode(
        old.pairs if old else [], old.pair_rows if old else EMPTY, reuse, map(bigrams, fresh)
    )
    tokens = EMPTY
    if isinstance(embedder, TokenEmbedder):
        fresh_tokens = Ragged.of(embedder.tokens(fresh))
        tokens = merge(previous.tokens if previous else EMPTY, reuse, fresh_tokens)
    kinds = np.zeros(len(reuse), np.uint16)
    kinds[reuse < 0] = [answertype.shown(text) for text in fresh]
    if previous is not None:
        kinds[reuse >= 0] = previous.kinds[reuse[reuse >= 0]]
    sentences = int(firsts[-1])
    snapshot = Snapshot(
        generation=0,
        manifest={},
        documents=list(documents),
        passages=passages,
        extras=extras,
        sentence_passage=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        passage_document=owners,
        lexical=LexicalIndex(
            table, words, _members(counts, context, extras), sentences, pairs, pair_rows
        ),
        dense=dense,
        tokens=tokens,
        kinds=kinds,
        language=store.main_language(documents),
        copies=copies,
    )
    return snapshot, len(fresh)


def _passages(
    documents: Sequence[Document], previous: Snapshot | None, copies: Copies
) -> tuple[list[Passage], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return the passages of all documents but near copies, the document and the number of
    sentences of each, and for every sentence its row in the generation before or -1."""
    passages: list[Passage] = []
    owners: list[int] = []
    counts: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    reuse: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    places = [-1] * len(documents)
    if previous is not None:
        places = _places(documents, previous).tolist()
        every = np.arange(len(previous.documents) + 1)
        bounds = np.searchsorted(previous.passage_document, every).tolist()
        rows = np.searchsorted(previous.sentence_passage, np.arange(len(previous.passages) + 1))
    for i, document in enumerate(documents):
        if copies.first[i] >= 0:
            continue
        place = places[i]
        # One that was a near copy until now has no passages there.
        if previous is not None and place >= 0 and previous.copies.first[place] < 0:
            a, b = bounds[place], bounds[place + 1]
            passages.extend(previous.passages[a:b])
            counts.append(np.diff(rows[a : b + 1]))
            reuse.append(np.arange(rows[a], rows[b]))
        else:
            own = split(document)
            passages.extend(own)
            counts.append(np.array([len(passage.sentences) for passage in own], np.int64))
            reuse.append(np.full(int(counts[-1].sum()), -1, np.int64))
        owners.extend([i] * (len(passages) - len(owners)))
    return passages, np.array(owners, np.int32), np.concatenate(counts), np.concatenate(reuse)


def _fresh(passages: Sequence[Passage], firsts: NDArray[np.int64], extras: Sequence[str],
           reuse: NDArray[np.int64], previous: Snapshot | None) -> list[str]:  # fmt: skip
    """Return the texts of the units without a row in the generation before.

    Those that stood there in another document are found by their text, and put into ``reuse``.
    """
    rows = np.flatnonzero(reuse < 0)
    owner = np.searchsorted(firsts, rows, side="right") - 1
    sentences = int(firsts[-1])
    texts = []
    for row, at in zip(rows.tolist(), owner.tolist(), strict=True):
        if row < sentences:
            passage = passages[at]
            start, end = passage.sentences[row - int(firsts[at])]
            texts.append(passage.text[start - passage.start : end - passage.start])
        else:
            texts.append(extras[row - sentences])
    if previous is not None and texts:
        wanted = set(texts)
        known = {text: row for row, text in enumerate(previous.unit_texts()) if text in wanted}
        reuse[rows] = [known.get(text, -1) for text in texts]
        texts = [text for text in texts if text not in known]
    return texts


def _members(counts: NDArray[np.int64], context: Sequence[Sequence[str]],
             extras: Sequence[str]) -> Ragged:  # fmt: skip
    """Return the units of every passage: its sentences, then its title and heading."""
    sentences = int(counts.sum())
    row_of = {text: sentences + i for i, text in enumerate(extras)}
    behind = np.array([len(row) for row in context], np.int64)
    indptr = np.concatenate([[0], np.cumsum(counts + behind)])
    shift = np.concatenate([[0], np.cumsum(behind)])[:-1]
    values = np.zeros(int(indptr[-1]), np.int32)
    of_sentence = np.arange(sentences) + np.repeat(shift, counts)
    rest = np.ones(len(values), bool)
    rest[of_sentence] = False
    values[of_sentence] = np.arange(sentences)
    values[rest] = [row_of[text] for row in context for text in row]
    return Ragged(indptr.astype(np.int64), values)
