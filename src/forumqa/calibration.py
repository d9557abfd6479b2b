"""The numbers that were fitted: how the two sides are weighed, and when to abstain."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

FEATURES = (
    "words_passage", "words_sentence", "pairs_passage", "pairs_sentence", "lexical_beside",
    "dense_sentence", "dense_beside", "dense_passage", "dense_context", "cue", "tokens",
    "token_words",
)  # fmt: skip
TOKEN_COLUMNS = slice(FEATURES.index("tokens"), FEATURES.index("token_words") + 1)

# How far the lexical side can be trusted differs by what it can see: "cross", a question in another
# language than the material; "held", nearly all of the question's weight stands in the material;
# "known", most of it; "new", less (a paraphrase).
_HELD, _KNOWN = 0.8, 0.6
# In "held" the passage that has the words together is found by the words: its BM25 counts this many
# times more than in "known", while the choice among its sentences stays as it is.
_PASSAGE_BOOST = 4.0

# Fitted by benchmarks/calibrate.py (listwise softmax over the candidate sentences) on written news
# articles that the embedding model was not trained on. In "known" the lexical side is then given
# four times its fitted weight: over ten articles that changes nothing, and over hundreds of
# passages words that the question and the passage share are worth more than the fit has seen.
# Keys: the regime; are tokens compared.
_WEIGHTS: dict[tuple[str, bool], tuple[float, ...]] = {
    ("known", False): (3.00, 1.92, 4.00, 3.20, 0.11, 1.67, 0.20, 0.38, 0.15, 0.08, 0.00, 0.00),
    ("new", False): (0.69, 0.44, 0.92, 0.74, 0.11, 1.85, 0.22, 0.47, 0.20, 0.12, 0.00, 0.00),
    ("cross", False): (3.24, 2.07, 4.30, 3.47, 0.25, 2.26, 0.40, 0.60, 0.21, 0.04, 0.00, 0.00),
    ("known", True): (1.28, 0.80, 1.68, 1.36, 0.34, 1.24, 0.20, 0.38, 0.17, 0.09, 0.16, 0.85),
    ("new", True): (0.11, 0.07, 0.15, 0.12, 0.42, 1.42, 0.21, 0.43, 0.23, 0.13, 0.15, 0.97),
    ("cross", True): (2.54, 1.62, 3.37, 2.72, 0.30, 1.19, 0.40, 0.35, 0.13, 0.04, 2.42, 0.41),
}


def regime(cross: bool, known: float) -> str:
    """Return which weights a question gets: "cross", "held", "known" or "new"."""
    if cross:
        return "cross"
    return "held" if known >= _HELD else "known" if known >= _KNOWN else "new"


@dataclass(frozen=True, slots=True)
class Signals:
    """What is seen of the best sentence of a ranking."""

    cross: bool
    coverage: float = 0.0
    words: float = 0.0
    dense: float = 0.0
    dense_passage: float = 0.0
    dense_context: float = 0.0
    dense_deviation: float = 0.0
    token_words: float = 0.0
    words_met: float = 0.0
    words_least_met: float = 0.0
    score: float = 0.0
    deviation: float = 0.0
    size: float = 0.0

    def vector(self) -> list[float]:
        return [float(x) for x in astuple(self)[1:]]


def weights(name: str, side: str = "both", tokens: bool = True) -> NDArray[np.float32]:
    """Return the weight of each feature in a regime; 0 for the features of the side that is left out."""
    out = np.array(_WEIGHTS["known" if name == "held" else name, tokens], np.float32)
    if name == "held":
        out[[FEATURES.index("words_passage"), FEATURES.index("pairs_passage")]] *= _PASSAGE_BOOST
    for i, name in enumerate(FEATURES):
        lexical = name.startswith(("words", "pairs", "lexical"))
        if (side == "dense" and lexical) or (
            side == "lexical" and name.startswith(("dense", "token"))
        ):
            out[i] = 0
    return out


# Logistic regression on the same articles: questions that they answer, against questions about
# articles that are not there and (at a third of the weight) near misses. In the order of Signals.
_CONFIDENCE = {
    False: (-3.565, (0.11, -1.61, 6.64, 3.34, -2.42, -0.61, 1.14, 2.79, -0.16, 0.94, 0.34, -0.01)),
    True: (-4.910, (-0.11, 4.08, 7.49, -4.15, -2.38, -0.55, -0.67, -1.13, 1.39, 4.39, 0.28, -0.15)),
}
# Six in a hundred of the questions that those articles do answer lie below.
_THRESHOLD = {False: 0.29, True: 0.32}


def confidence(signals: Signals) -> float:
    """Return the estimated probability that the material holds the answer."""
    bias, factors = _CONFIDENCE[signals.cross]
    x = bias + sum(f * v for f, v in zip(factors, signals.vector(), strict=True))
    return 1 / (1 + math.exp(-x))


def threshold(signals: Signals) -> float:
    """Return the confidence below which to abstain."""
    return _THRESHOLD[signals.cross]
