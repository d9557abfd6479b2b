"""Corpus to generation: what changed is read, cut, analysed and embedded; the rest is carried over.

A document whose file has not changed keeps its passages; a sentence that stood in the generation
before keeps its analysis and its vector, even in a document that did change. Building A and then B
gives the same generation as building B from nothing.
"""

from __future__ import annotations

import hashlib
import os
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from forumqa import store
from forumqa.chunking import CHUNKER_VERSION, split
from forumqa.dense import DenseIndex
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
from forumqa.loaders import LOADERS, LOADERS_VERSION
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
class _Scan:
    """The files of a corpus folder by document id, and those that are left out."""

    files: dict[str, Path] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def rebuild(corpus: Path, index: Path, embedder: Embedder, previous: Snapshot | None,
            progress: Progress | None = None) -> BuildReport:  # fmt: skip
    """Bring ``index`` up to date with the files under ``corpus`` and publish a generation.

    Call it under ``store.writer_lock``. ``previous`` is the live generation, or None to build from
    nothing. A file that cannot be read keeps the passages it had and is named in ``failed``.
    """
    began = time.perf_counter()
    if not corpus.is_dir():
        raise ForumQAError(f"There is no folder {corpus}; make it and put articles into it.")
    scan = _scan(corpus)
    if previous is not None and not _compatible(previous, embedder):
        previous = None
    old = {document.id: document for document in previous.documents} if previous else {}
    old_hashes: Mapping[str, str] = previous.manifest["documents"] if previous else {}
    documents: list[Document] = []
    hashes: dict[str, str] = {}
    added: list[str] = []
    changed: list[str] = []
    failed = dict(scan.failed)
    loader = IsolatedLoader()
    for done, (name, path) in enumerate(sorted(scan.files.items())):
        if progress:
            progress(done, len(scan.files), name)
        try:
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            if old_hashes.get(name) == digest:
                document = old[name]
            else:
                document = loader.load(data, name)
                (changed if name in old else added).append(name)
        except (LoadFailed, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            failed[name] = reason or str(error)
            if name not in old:
                continue
            document, digest = old[name], old_hashes[name]
        documents.append(document)
        hashes[name] = digest
    loader.close()
    snapshot, embedded = assemble(documents, embedder, previous, progress)
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
            "corpus": str(corpus),
            "failed": failed,
            "skipped": scan.skipped,
        },
    )
    return BuildReport(
        generation=number,
        added=tuple(added),
        changed=tuple(changed),
        removed=tuple(sorted(set(old) - set(hashes))),
        unchanged=tuple(name for name in hashes if name not in touched and name not in failed),
        failed=failed,
        skipped=scan.skipped,
        passages=len(snapshot.passages),
        embedded=embedded,
        seconds=time.perf_counter() - began,
    )


@lru_cache(maxsize=1)
def _analyser() -> Analyser:
    """The analyser is kept for the next rebuild of this process; a served page rebuilds rarely,
    and pays with memory only once it has."""
    return Analyser()


def _versions() -> dict[str, int]:
    return {
        "analyser": ANALYSER_VERSION,
        "chunker": CHUNKER_VERSION,
        "loaders": LOADERS_VERSION,
    }


def _compatible(snapshot: Snapshot, embedder: Embedder) -> bool:
    same_model = snapshot.manifest["embedder"]["fingerprint"] == embedder.fingerprint
    return bool(same_model and snapshot.manifest["versions"] == _versions())


def _scan(corpus: Path) -> _Scan:
    scan = _Scan()
    for folder, folders, names in os.walk(corpus):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            relative = unicodedata.normalize("NFC", path.relative_to(corpus).as_posix())
            if name.startswith((".", "~$")):
                continue
            if path.suffix.lower() not in LOADERS:
                kinds = ", ".join(sorted(LOADERS))
                scan.skipped[relative] = f"not one of the formats that are read ({kinds})"
            elif relative in scan.files:
                scan.failed[relative] = "two files have this name; rename one of them"
            else:
                scan.files[relative] = path
    return scan


def assemble(documents: Sequence[Document], embedder: Embedder, previous: Snapshot | None = None,
             progress: Progress | None = None) -> tuple[Snapshot, int]:  # fmt: skip
    """Return the snapshot of these documents, and how many units had to be embedded."""
    kept: dict[str, list[Passage]] = {}
    if previous is not None:
        same = {d.id for d in previous.documents} & {d.id for d in documents}
        before = {d.id: d for d in previous.documents if d.id in same}
        for passage in previous.passages:
            if passage.document_id in same:
                kept.setdefault(passage.document_id, []).append(passage)
    passages: list[Passage] = []
    owners: list[int] = []
    for i, document in enumerate(documents):
        unchanged = document.id in kept and before[document.id] == document
        own = kept[document.id] if unchanged else split(document)
        passages.extend(own)
        owners.extend([i] * len(own))
    sentences = [
        passage.text[start - passage.start : end - passage.start]
        for passage in passages
        for start, end in passage.sentences
    ]
    context = [
        [text for text in (documents[owner].title, passage.heading) if text]
        for owner, passage in zip(owners, passages, strict=True)
    ]
    extras = list(dict.fromkeys(text for row in context for text in row))
    units = sentences + extras
    known = {text: row for row, text in enumerate(previous.unit_texts())} if previous else {}
    reuse = [known.get(text, -1) for text in units]
    fresh = [text for text, row in zip(units, reuse, strict=True) if row < 0]

    analysed: list[list[Word]] = []
    vectors = np.zeros((len(units), embedder.dimension), np.float32)
    if fresh:
        analyser = _analyser()
        encoded = []
        for at in range(0, len(fresh), _BATCH):
            if progress:
                progress(at, len(fresh), f"{len(fresh)} sentences")
            batch = fresh[at : at + _BATCH]
            analysed.extend(analyser.words(batch))
            encoded.append(embedder.encode_passages(batch))
        vectors[[row < 0 for row in reuse]] = np.concatenate(encoded)
    if previous is not None:
        rows = np.array([row for row in reuse if row >= 0], np.int64)
        vectors[[row >= 0 for row in reuse]] = previous.dense.vectors(rows)

    old = previous.lexical if previous else None
    table, words = recode(old.table if old else [], old.words if old else EMPTY, reuse, analysed)
    pairs, pair_rows = recode(
        old.pairs if old else [], old.pair_rows if old else EMPTY, reuse, map(bigrams, fresh)
    )
    tokens = EMPTY
    if isinstance(embedder, TokenEmbedder):
        fresh_tokens = Ragged.of(embedder.tokens(fresh))
        tokens = merge(previous.tokens if previous else EMPTY, reuse, fresh_tokens)
    counts = [len(passage.sentences) for passage in passages]
    firsts = np.concatenate([[0], np.cumsum(counts)]).astype(int).tolist()
    extra_row = {text: len(sentences) + i for i, text in enumerate(extras)}
    members = Ragged.of(
        [*range(firsts[i], firsts[i + 1]), *(extra_row[text] for text in row)]
        for i, row in enumerate(context)
    )
    snapshot = Snapshot(
        generation=0,
        manifest={},
        documents=list(documents),
        passages=passages,
        extras=extras,
        sentence_passage=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        passage_document=np.array(owners, np.int32),
        lexical=LexicalIndex(table, words, members, len(sentences), pairs, pair_rows),
        dense=DenseIndex.build(vectors),
        tokens=tokens,
        language=store.main_language(documents),
    )
    return snapshot, len(fresh)
