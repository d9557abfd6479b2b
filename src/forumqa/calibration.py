"""The numbers that were fitted: how the two sides are weighed, and when to abstain."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

FEATURES = (
    "words_passage", "words_sentence", "pairs_passage", "pairs_sentence", "lexical_beside",
    "dense_sentence", "dense_beside", "dense_passage", "dense_context", "cue", "lead",
)  # fmt: skip
SENTENCES = 2

_WEIGHTS = {
    False: (0.6, 0.6, 0.4, 0.6, 0.1, 0.8, 0.0, 0.3, 0.1, 0.05, 0.0),
    True: (0.5, 0.5, 0.1, 0.1, 0.1, 1.0, 0.0, 0.3, 0.1, 0.05, 0.0),
}


@dataclass(frozen=True, slots=True)
class Signals:
    """What is seen of the best sentence of a ranking."""

    cross: bool
    coverage: float
    words: float
    pairs: float
    dense: float
    dense_best: float
    dense_passage: float
    dense_context: float
    score: float
    margin: float
    terms: int

    @classmethod
    def none(cls) -> Signals:
        return cls(False, *[0.0] * 9, terms=0)

    def vector(self) -> list[float]:
        return [float(x) for x in astuple(self)]


def weights(cross: bool, side: str = "both") -> NDArray[np.float32]:
    """Return the weight of each feature; 0 for the features of the side that is left out."""
    out = np.array(_WEIGHTS[cross], np.float32)
    for i, name in enumerate(FEATURES):
        lexical = name.startswith(("words", "pairs", "lexical"))
        if (side == "dense" and lexical) or (side == "lexical" and name.startswith("dense")):
            out[i] = 0
    return out


def confidence(signals: Signals) -> float:
    """Return the estimated probability that the material holds the answer."""
    x = 3 * signals.coverage + 4 * signals.dense - 2.5
    return 1 / (1 + math.exp(-x))


def threshold(signals: Signals) -> float:
    return 0.3
