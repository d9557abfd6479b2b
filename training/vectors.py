"""Text as rows of piece numbers, and the mean of their vectors: all that the model does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
UNKNOWN = 1
"""Stands for a text without any piece; a mean needs at least one."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts as piece numbers, one after the other; row i is flat[starts[i] : starts[i + 1]]."""

    flat: NDArray[np.int32]
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, tokenizer: Tokenizer, texts: Sequence[str], longest: int = 192) -> Rows:
        """Tokenises texts; more than `longest` pieces of a text change its mean little."""
        encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = [np.array(row.ids[:longest] or [UNKNOWN], np.int32) for row in encoded]
        lengths = np.fromiter((len(row) for row in ids), np.int64, len(ids))
        flat = np.concatenate(ids) if ids else np.zeros(0, np.int32)
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]))

    def take(self, rows: Ints) -> Rows:
        """The given rows, in the given order."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        where = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Rows(self.flat[where], starts)

    def thin(self, keep: Floats, rng: np.random.Generator) -> Rows:
        """Keeps each piece of row i with probability keep[i], and at least one piece of a row."""
        lengths = np.diff(self.starts)
        row = np.repeat(np.arange(len(self)), lengths)
        kept = rng.random(len(self.flat), np.float32) < keep[row]
        empty = np.flatnonzero(np.bincount(row[kept], minlength=len(self)) == 0)
        kept[self.starts[empty] + rng.integers(0, lengths[empty])] = True
        counts = np.bincount(row[kept], minlength=len(self))
        return Rows(self.flat[kept], np.concatenate([[0], np.cumsum(counts)]))


def unit(vectors: Floats) -> Floats:
    """Rows of length one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)
    return found


def rotation(vectors: Floats, onto: Floats) -> Floats:
    """Orthogonal matrix that brings `vectors` nearest to `onto`, row by row (Schönemann 1966)."""
    left, _, right = np.linalg.svd(vectors.T @ onto)
    found: Floats = (left @ right).astype(np.float32)
    return found


def embed(matrix: Floats, tokenizer: Tokenizer, texts: Sequence[str]) -> Floats:
    """Unit vectors of texts, with tokenizers and numpy alone."""
    rows = Rows.of(tokenizer, texts, longest=100_000)
    found = np.empty((len(rows), matrix.shape[1]), np.float32)
    for begin in range(0, len(rows), 256):
        end = min(begin + 256, len(rows))
        part = rows.take(np.arange(begin, end))
        found[begin:end] = np.add.reduceat(matrix[part.flat], part.starts[:-1], axis=0)
    return unit(found)
