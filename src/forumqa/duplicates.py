"""One press release in five outlets is one source: which documents are near copies of another.

Candidates come from MinHash signatures (Broder 1997; ``datasketch``) that share a band; each is
then compared in full. Hiding a document costs more than showing a copy, so doubt means "not a copy".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Raised whenever the signature of some text changes.
DUPLICATES_VERSION = 1
# The share of all character shingles that two texts have in common, from which one is a near copy:
# a release of seven sentences with another lead, a footer, a cut last sentence and an edited one has
# 0.45 to 0.7, longer ones more; two articles about one event 0.05 to 0.25.
RESEMBLANCE = 0.45
# Five letters: two Korean words or one English one. An edited word costs nine shingles of hundreds.
_SHINGLE = 5
_PERMUTATIONS = 128
# 42 bands of three: a pair that resembles by 0.45 is met with 0.98, one by 0.05 with 0.005.
_BANDS, _ROWS = 42, 3
# Signatures estimate resemblance to 0.044 (one standard deviation of 128 draws at 0.5).
_ESTIMATE = RESEMBLANCE - 0.15
# Forms filled in anew every day all resemble each other; so many are compared with each.
_COMPARED = 32
# A figure is the same one where so many letters before and behind it are the same.
_CONTEXT = 6

Codes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Copies:
    """``first[i]`` is the document that document i is a near copy of, -1 where it is none.

    ``signatures`` (n, 128) and ``compared`` (rows of document, earlier document, 0 or 1) are kept
    for the next build. A first one is never a copy itself.
    """

    first: NDArray[np.int32]
    signatures: NDArray[np.uint32]
    compared: NDArray[np.int32]

    @classmethod
    def none(cls, documents: int) -> Copies:
        """Nothing is a copy, because nothing was compared."""
        return cls(
            np.full(documents, -1, np.int32),
            np.zeros((0, _PERMUTATIONS), np.uint32),
            np.zeros((0, 3), np.int32),
        )

    def of(self, document: int) -> list[int]:
        """Return the near copies of a document."""
        return [int(i) for i in np.flatnonzero(self.first == document)]


def find(texts: Sequence[str], order: Sequence[int], previous: Copies | None = None,
         same: NDArray[np.int64] | None = None) -> Copies:  # fmt: skip
    """Return the near copies among texts.

    ``order`` lists them earliest first. A text is compared with the firsts of the groups before it
    and joins the most similar one that passes, so that every member is near the first itself and
    no chain of small edits joins what is far apart. ``same[i]`` is the place of an unchanged text
    in the build before, or -1; its signature and verdicts are carried over.
    """
    place = np.full(len(texts), -1) if same is None or previous is None else same
    signatures = np.zeros((len(texts), _PERMUTATIONS), np.uint32)
    known: dict[tuple[int, int], bool] = {}
    if previous is not None and len(previous.signatures):
        signatures[place >= 0] = previous.signatures[place[place >= 0]]
        known = {(i, j): bool(verdict) for i, j, verdict in previous.compared.tolist()}
    else:
        place = np.full(len(texts), -1)
    for i in np.flatnonzero(place < 0).tolist():
        signatures[i] = signature(texts[i])

    first = np.full(len(texts), -1, np.int32)
    compared: list[tuple[int, int, bool]] = []
    buckets, crowded = _buckets(signatures)
    firsts: dict[tuple[int, int], list[int]] = {}

    @lru_cache(maxsize=256)
    def read(i: int) -> tuple[Codes, dict[str, set[str]]]:
        letters = _letters(texts[i])
        return shingles(letters), figures(letters)

    def same_source(i: int, j: int) -> bool:
        verdict = known.get((int(place[i]), int(place[j])))
        if verdict is None:
            verdict = alike(*read(i), *read(j))
        compared.append((i, j, verdict))
        return verdict

    for i in order:
        if not crowded[i]:
            continue
        row = buckets[i].tolist()
        near = sorted({j for key in enumerate(row) for j in firsts.get(key, ())})
        if near:
            share = (signatures[near] == signatures[i]).mean(axis=1)
            by_share = np.argsort(-share, kind="stable")[:_COMPARED]
            near = [near[n] for n in by_share.tolist() if share[n] >= _ESTIMATE]
        first[i] = next((j for j in near if same_source(i, j)), -1)
        if first[i] < 0:
            for key in enumerate(row):
                firsts.setdefault(key, []).append(i)
    rows = np.array(compared, np.int32).reshape(-1, 3)
    return Copies(first, signatures, rows)


def alike(codes: Codes, numbers: dict[str, set[str]], other_codes: Codes,
          other_numbers: dict[str, set[str]]) -> bool:  # fmt: skip
    """Say whether two texts tell the same, from their shingles and figures.

    A report of the year before resembles this year's as much as a copy does, and has other figures
    in the same places. One that differs among eight or more is taken for a correction.
    """
    shared = len(np.intersect1d(codes, other_codes, assume_unique=True))
    if shared < RESEMBLANCE * (len(codes) + len(other_codes) - shared):
        return False
    places = numbers.keys() & other_numbers.keys()
    differ = sum(numbers[at].isdisjoint(other_numbers[at]) for at in places)
    return differ == 0 or (differ == 1 and len(places) >= 8)


def signature(text: str) -> NDArray[np.uint32]:
    """Return the MinHash signature of a text."""
    sketch = _sketch()()
    sketch.update_batch((shingles(_letters(text)) >> np.uint64(32)).tolist())
    return np.asarray(sketch.hashvalues, np.uint32)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())


def shingles(letters: str) -> Codes:
    """Return the distinct codes of all runs of five letters, sorted.

    A code is a polynomial of the run's code points modulo 2**64: distinct runs of an article have
    distinct codes but for a chance of one in billions.
    """
    points = np.frombuffer(letters.encode("utf-32-le"), np.uint32).astype(np.uint64)
    count = max(len(points) - _SHINGLE + 1, 1)
    codes = np.zeros(count, np.uint64)
    for i in range(min(_SHINGLE, len(points))):
        codes = codes * np.uint64(0x9E3779B97F4A7C15) + points[i : i + count]
    return np.unique(codes)


def figures(letters: str) -> dict[str, set[str]]:
    """Return the numbers of a text by the letters around them, other numbers there masked."""
    numbers = re.findall(r"\d+", letters)
    masked = re.sub(r"\d+", "#", letters)
    out: dict[str, set[str]] = {}
    for found, number in zip(re.finditer("#", masked), numbers, strict=True):
        at = found.start()
        out.setdefault(masked[max(0, at - _CONTEXT) : at + _CONTEXT + 1], set()).add(number)
    return out


def _buckets(signatures: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the bucket of every document in every band, and whether it shares one."""
    count = len(signatures)
    buckets = np.zeros((count, _BANDS), np.int64)
    crowded = np.zeros(count, bool)
    for band in range(_BANDS):
        a, b, c = signatures[:, band * _ROWS : (band + 1) * _ROWS].astype(np.uint64).T
        code = ((a << np.uint64(32)) + b) * np.uint64(0x9E3779B97F4A7C15) + c
        _, buckets[:, band], sizes = np.unique(code, return_inverse=True, return_counts=True)
        crowded |= sizes[buckets[:, band]] > 1
    return buckets, crowded


@lru_cache(maxsize=1)
def _sketch() -> Callable[[], Any]:
    from datasketch import MinHash

    # The scheme is named because signatures are kept: a later default must not mix with them.
    scheme = "affine32"
    permutations = MinHash(_PERMUTATIONS, seed=1, scheme=scheme).permutations
    return lambda: MinHash(
        _PERMUTATIONS, seed=1, hashfunc=int, permutations=permutations, scheme=scheme
    )
