"""The numbers that were fitted: how the two sides are weighed, and when to abstain."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from forumqa.answertype import KINDS

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
# Fitted by benchmarks/calibrate.py (listwise softmax over the candidate sentences) on the written
# articles, with models that were not trained on them (training/news: articles-2 and held-out, with the
# two models before this one), and for "held" on questions over paragraphs of reports and encyclopaedias.
# Fitted again with a near twin of this model on held-out alone, they ranked no better and abstained worse.
# In "held" both weights of BM25 over the passage are then raised (by 1.0 and 2.0), which finds more
# passages among hundreds and changes nothing among ten articles.
# Keys: the regime; are tokens compared.
_WEIGHTS: dict[tuple[str, bool], tuple[float, ...]] = {
    ("held", False): (1.00, 0.61, 2.96, 0.47, 0.11, 0.77, 0.10, 0.53, 0.21, 0.07, 0.00, 0.00),
    ("held", True): (1.00, 0.19, 2.69, 0.00, 0.12, 0.47, 0.12, 0.55, 0.19, 0.06, 0.23, 0.53),
    ("known", False): (0.20, 0.40, 1.04, 0.57, 0.00, 1.43, 0.27, 0.24, 0.26, 0.05, 0.00, 0.00),
    ("known", True): (0.05, 0.00, 0.66, 0.00, 0.07, 1.02, 0.28, 0.24, 0.28, 0.05, 0.00, 0.93),
    ("new", False): (0.52, 0.18, 1.21, 1.04, 0.10, 1.67, 0.13, 0.41, 0.36, 0.06, 0.00, 0.00),
    ("new", True): (0.19, 0.00, 0.99, 0.00, 0.24, 1.27, 0.13, 0.37, 0.36, 0.06, 0.04, 0.97),
    ("cross", False): (2.17, 1.84, 0.00, 0.00, 0.00, 1.86, 0.25, 0.54, 0.33, 0.05, 0.00, 0.00),
    ("cross", True): (1.73, 1.32, 0.00, 0.00, 0.00, 0.78, 0.26, 0.30, 0.25, 0.05, 2.07, 0.42),
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
    lead: float = 0.0
    cue: float = 0.0
    asked: float = 0.0

    def vector(self) -> list[float]:
        return [float(x) for x in astuple(self)[1:]]


# How much more often the sentence that answers shows a kind of thing, or lacks it, than the other
# sentences do, where the question asks for that kind: log-likelihood ratios, over the written
# articles (benchmarks/calibrate.py).
_EVIDENCE = {
    "number": (0.48, -1.90), "people": (2.04, -1.49), "money": (1.80, -0.60),
    "share": (2.07, -1.16), "time": (1.19, -0.77), "year": (1.61, -1.22), "hour": (2.71, -2.62),
    "person": (0.61, -0.15), "place": (0.17, -0.26), "reason": (1.80, -0.12),
}  # fmt: skip


@lru_cache(maxsize=256)
def type_evidence(asked: int) -> NDArray[np.float32]:
    """Return for every mask of kinds shown how much it speaks for a sentence, in nats."""
    shown = np.arange(1 << len(KINDS))
    out = np.zeros(len(shown), np.float32)
    for i, kind in enumerate(KINDS):
        if asked >> i & 1:
            out += np.where(shown >> i & 1, *_EVIDENCE[kind])
    return out


_SIDES = {"lexical": ("words", "pairs", "lexical"), "dense": ("dense", "token")}


@lru_cache(maxsize=32)
def weights(name: str, side: str = "both", tokens: bool = True) -> NDArray[np.float32]:
    """Return the weight of each feature in a regime; with one ``side``, 0 for the features of the
    other. Shared, so read-only."""
    other = {"both": (), "lexical": _SIDES["dense"], "dense": _SIDES["lexical"]}[side]
    kept = [not feature.startswith(other) for feature in FEATURES]
    out = np.array(_WEIGHTS[name, tokens], np.float32) * np.array(kept, np.float32)
    out.flags.writeable = False
    return out


# Logistic regression on the same articles: questions that they answer, against questions about
# articles that are not there and (at a third of the weight) near misses. In the order of Signals.
_CONFIDENCE = {
    False: (-6.541, (0.73, -0.59, 6.38, 1.72, -1.58, -0.36, 5.73, -0.31, 1.04, 0.36, 0.34, -0.69, -1.05, 0.26, 1.70)),
    True: (-3.916, (1.33, -0.73, 9.06, -2.10, -2.19, -0.59, 1.57, -5.05, 1.60, 3.56, 0.54, -0.93, -0.42, -0.01, 0.00)),
}  # fmt: skip
# At most six in a hundred of the questions that those articles do answer lie below, be it over one, ten
# or forty of them.
_THRESHOLD = {False: 0.21, True: 0.25}


def confidence(signals: Signals) -> float:
    """Return the estimated probability that the material holds the answer."""
    bias, factors = _CONFIDENCE[signals.cross]
    x = bias + sum(f * v for f, v in zip(factors, signals.vector(), strict=True))
    return 1 / (1 + math.exp(-x))


def threshold(signals: Signals) -> float:
    """Return the confidence below which to abstain."""
    return _THRESHOLD[signals.cross]
