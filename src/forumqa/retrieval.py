"""Question to ranked sentences and passages: what each side sees, and one rule that joins them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from forumqa import answertype
from forumqa import text as tx
from forumqa.calibration import FEATURES, TOKEN_COLUMNS, Signals, regime, type_evidence, weights
from forumqa.dense import unit
from forumqa.lexical import QueryTerm
from forumqa.schema import Embedder, Hit, Message, Reranker, TokenEmbedder
from forumqa.store import Snapshot

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Tokens = NDArray[np.int32]

# Candidates: the passages of the nearest sentences, and the passages that hold most of the
# question's words. In a small corpus that is everything.
_DENSE_CANDIDATES = 256
_LEXICAL_CANDIDATES = 64
# So many sentences are compared word by word.
_TOKEN_CANDIDATES = 32
# So many are read by a cross-encoder, where one is set: a tenth of a second or more on a CPU.
_RERANKED = 20
# BM25 of a word that fills a sentence tends to (k1 + 1) times its idf.
_SATURATED = 2.2
# A long question is met less in every measure. The fit has seen questions of so many words.
_SHORTEST, _LONGEST = 3, 12


@dataclass(frozen=True, slots=True)
class Query:
    """A question as the two sides read it. ``cross`` is True where its language is not that of the
    material, so that only names, numbers and Latin words can meet; ``tokens`` is empty where the
    embedder has none."""

    text: str
    language: str
    cross: bool
    terms: list[QueryTerm]
    pairs: list[tuple[int, float]]
    pair_weight: float
    vector: Floats
    tokens: Tokens

    @property
    def known(self) -> float:
        """The share of the content words' weight that stands anywhere in the material."""
        return sum(t.weight for t in self.terms if t.words) / max(self.weight, 1e-6)

    @property
    def weight(self) -> float:
        """What all content words weigh together."""
        return sum(term.weight for term in self.terms)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidate sentences, best first: rows of the snapshot and their scores.

    ``lexical`` and ``dense`` are each side's own score of the sentence's passage. ``signals`` is
    what the decision to abstain looks at.
    """

    query: Query
    rows: Rows
    scores: Floats
    lexical: Floats
    dense: Floats
    signals: Signals


# --- scoring -------------------------------------------------------------------------------------


def read(snapshot: Snapshot, embedder: Embedder, question: str) -> Query:
    """Analyse a question against a snapshot."""
    text = tx.normalize(question).strip()
    lexical = snapshot.lexical
    pairs = lexical.pairs_of(text)
    idf = lexical.pairs_by_sentence.idf
    known = sum(float(idf[i]) * weight for i, weight in pairs)
    unseen = len(set(tx.bigrams(text))) - len(pairs)
    language = tx.language_of(text)
    return Query(
        text=text,
        language=language,
        cross=snapshot.language != language,
        terms=lexical.read(text),
        pairs=pairs,
        pair_weight=known + unseen * lexical.unseen_weight,
        vector=embedder.encode_queries([text])[0],
        tokens=np.array(
            embedder.tokens([text])[0] if isinstance(embedder, TokenEmbedder) else [], np.int32
        ),
    )


def candidates(snapshot: Snapshot, query: Query) -> tuple[Rows, Floats, Floats]:
    """Return the rows worth scoring, and BM25 of words and of pairs of every passage as shares of
    the most that the question could get."""
    lexical = snapshot.lexical
    words = lexical.by_passage.score_best([term.words for term in query.terms])
    words /= max(_SATURATED * query.weight, 1e-6)
    pairs = lexical.pairs_by_passage.score(query.pairs) / max(_SATURATED * query.pair_weight, 1e-6)
    both = words + pairs
    sentences = len(snapshot.sentence_passage)
    _, units = snapshot.dense.search(query.vector, _DENSE_CANDIDATES + len(snapshot.extras) // 8)
    near = snapshot.sentence_passage[units[units < sentences][:_DENSE_CANDIDATES]]
    top = np.argpartition(-both, min(_LEXICAL_CANDIDATES, len(both) - 1))[:_LEXICAL_CANDIDATES]
    chosen = np.unique(np.concatenate([near, top[both[top] > 0]]))
    first = np.searchsorted(snapshot.sentence_passage, chosen)
    after = np.searchsorted(snapshot.sentence_passage, chosen, side="right")
    rows = [np.arange(a, b) for a, b in zip(first, after, strict=True)]
    return np.concatenate(rows).astype(np.int64), words, pairs


def features(snapshot: Snapshot, query: Query) -> tuple[Rows, Floats]:
    """Return the candidate sentences and their features, columns as in ``calibration.FEATURES``."""
    rows, words, pairs = candidates(snapshot, query)
    lexical = snapshot.lexical
    owner = snapshot.sentence_passage[rows]
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(rows))))
    own_words = lexical.by_sentence.score_best([term.words for term in query.terms])[rows]
    own_words /= max(_SATURATED * query.weight, 1e-6)
    own_pairs = lexical.pairs_by_sentence.score(query.pairs)[rows]
    own_pairs /= max(_SATURATED * query.pair_weight, 1e-6)
    units = [lexical.passages.row(int(p)) for p in owner[starts]]
    sentences = len(snapshot.sentence_passage)
    extras = [row[row >= sentences] for row in units]
    wanted = np.concatenate([rows, *extras]).astype(np.int64)
    similarity = snapshot.dense.vectors(wanted) @ query.vector
    dense = similarity[: len(rows)]
    bounds = np.cumsum([len(rows), *map(len, extras)])
    context = np.array(
        [similarity[a:b].max() if b > a else 0.0 for a, b in pairwise(bounds)], np.float32
    )
    columns = {
        "words_passage": words[owner],
        "words_sentence": own_words,
        "pairs_passage": pairs[owner],
        "pairs_sentence": own_pairs,
        "lexical_beside": _beside(own_words + own_pairs, starts),
        "dense_sentence": dense,
        "dense_beside": _beside(dense, starts),
        "dense_passage": np.maximum.reduceat(dense, starts)[group],
        "dense_context": context[group],
        "cue": _cues(snapshot, query, rows),
    }
    table = np.zeros((len(rows), len(FEATURES)), np.float32)
    for name, values in columns.items():
        table[:, FEATURES.index(name)] = values
    return rows, table


def token_match(snapshot: Snapshot, embedder: TokenEmbedder, asked: Tokens, rows: Rows) -> Floats:
    """Compare word by word: for each token (and each word) of the question the most similar one of
    the sentence, averaged by the lengths of the question's vectors; float32 of shape (n, 2).

    This is the MaxSim of ColBERT (Khattab and Zaharia 2020) over static vectors, in which a
    sentence's mean drowns the one word that matters.
    """
    if not len(asked):
        return np.zeros((len(rows), 2), np.float32)
    taken = [snapshot.tokens.row(int(row)) for row in rows]
    # A sentence without a token matches like one of an unknown token.
    flat = np.concatenate([row if len(row) else np.ones(1, np.int32) for row in taken])
    starts = np.cumsum([0, *(max(len(row), 1) for row in taken)])[:-1]
    # A token that stands in many of the sentences is looked up and compared once.
    known, at = np.unique(flat >> 1, return_inverse=True)
    mine, distinct = embedder.vectors_of(asked), embedder.vectors_of((known << 1).astype(np.int32))
    by_token = _max_sim(mine, distinct, starts, at)
    theirs = distinct[at]
    word_starts = np.flatnonzero(flat & 1)
    words = np.add.reduceat(theirs, word_starts, axis=0)
    my_words = np.add.reduceat(mine, np.flatnonzero(asked & 1), axis=0)
    by_word = _max_sim(my_words, words, np.searchsorted(word_starts, starts))
    return np.stack([by_token, by_word], axis=1)


def _max_sim(mine: Floats, theirs: Floats, starts: Rows, at: Rows | None = None) -> Floats:
    """``at`` gives the row of ``theirs`` for each place of the sentences, where they are shared."""
    lengths = np.linalg.norm(mine, axis=1)
    similarity = unit(theirs) @ unit(mine).T
    best = np.maximum.reduceat(similarity if at is None else similarity[at], starts, axis=0)
    return np.asarray(best @ lengths / max(float(lengths.sum()), 1e-9), np.float32)


def _beside(values: Floats, starts: Rows) -> Floats:
    """Return for each sentence the better value of the ones before and after it in its passage."""
    first = np.zeros(len(values) + 1, bool)
    first[starts] = first[-1] = True
    before = np.where(first[:-1], 0, np.roll(values, 1))
    after = np.where(first[1:], 0, np.roll(values, -1))
    return np.maximum(before, after)


def _cues(snapshot: Snapshot, query: Query, rows: Rows) -> Floats:
    """Return how much each sentence's kinds speak for it, given the kinds asked for."""
    asked = answertype.asked(query.text)
    if not asked:
        return np.zeros(len(rows), np.float32)
    return type_evidence(asked)[snapshot.kinds[rows]]


def rank(snapshot: Snapshot, embedder: Embedder, question: str, history: Sequence[Message] = (),
         side: str = "both") -> Ranking:  # fmt: skip
    """Return the candidate sentences of a question, best first.

    ``side`` leaves the other side's features out ("lexical", "dense"), to measure each alone.
    """
    query = read(snapshot, embedder, question)
    if history:
        query = carry_over(snapshot, embedder, query, history)
    if not snapshot.passages:
        none = np.zeros(0, np.float32)
        return Ranking(query, np.zeros(0, np.int64), none, none, none, Signals(query.cross))
    rows, table = features(snapshot, query)
    scores = table @ weights(regime(query.cross, query.known), side, tokens=False)
    order = np.argsort(-scores, kind="stable")
    rows, table, scores = rows[order], table[order], scores[order]
    if len(snapshot.tokens) and isinstance(embedder, TokenEmbedder) and side != "lexical":
        # Word by word, the best of them again; those behind stay behind.
        top = slice(0, _TOKEN_CANDIDATES)
        table[top, TOKEN_COLUMNS] = token_match(snapshot, embedder, query.tokens, rows[top])
        again = table[top] @ weights(regime(query.cross, query.known), side)
        order = np.argsort(-again, kind="stable")
        rows[top], table[top] = rows[top][order], table[top][order]
        if len(rows) > _TOKEN_CANDIDATES:
            scores = scores + (again.min() - scores[_TOKEN_CANDIDATES])
        scores[top] = again[order]
    lexical = table[:, FEATURES.index("words_passage")] + table[:, FEATURES.index("pairs_passage")]
    dense = table[:, FEATURES.index("dense_passage")]
    signals = measure(snapshot, embedder, query, rows, table, scores)
    return Ranking(query, rows, scores, lexical, dense, signals)


def rerank(snapshot: Snapshot, ranking: Ranking, reranker: Reranker) -> Ranking:
    """Put the best sentences in the order that a model gives them which reads each of them, behind
    its title, together with the question. The scores stay in their places: what decides on
    abstaining, and how far one sentence is behind another, keep their scale."""
    texts = []
    for row in ranking.rows[:_RERANKED].tolist():
        _, start, end = snapshot.sentence(row)
        document = snapshot.documents[
            int(snapshot.passage_document[snapshot.sentence_passage[row]])
        ]
        texts.append(f"{document.title}\n{document.text[start:end]}")
    if not texts:
        return ranking
    order = np.arange(len(ranking.rows))
    order[: len(texts)] = np.argsort(-reranker.score(ranking.query.text, texts), kind="stable")
    return replace(
        ranking,
        rows=ranking.rows[order],
        lexical=ranking.lexical[order],
        dense=ranking.dense[order],
    )


def measure(snapshot: Snapshot, embedder: Embedder, query: Query, rows: Rows, table: Floats,
            scores: Floats) -> Signals:  # fmt: skip
    """Return what the decision to abstain looks at, of a ranking."""
    passage = int(snapshot.sentence_passage[rows[0]])
    held = {int(i) for i in snapshot.lexical.terms_of_passage(passage)}
    found = sum(t.weight for t in query.terms if any(i in held for i, _ in t.words))
    owner = snapshot.passage_document[snapshot.sentence_passage[rows]]
    other = np.flatnonzero(owner != owner[0])
    column = {name: table[:, i] for i, name in enumerate(FEATURES)}
    met, least = 0.0, 0.0
    if len(snapshot.tokens) and isinstance(embedder, TokenEmbedder):
        met, least = words_met(snapshot, embedder, query.tokens, passage)
    return Signals(
        cross=query.cross,
        coverage=found / max(query.weight, 1e-6),
        words=float(column["words_sentence"][0] + column["words_passage"][0]),
        dense=float(column["dense_sentence"][0]),
        dense_passage=float(column["dense_passage"][0]),
        dense_context=float(column["dense_context"][0]),
        dense_deviation=_deviation(column["dense_sentence"]),
        token_words=float(column["token_words"][0]),
        words_met=met,
        words_least_met=least,
        score=float(scores[0]),
        deviation=_deviation(scores),
        size=math.log10(len(snapshot.sentence_passage)),
        lead=float(scores[0] - scores[other[0]]) if len(other) else 0.0,
        cue=float(column["cue"][0]),
        asked=math.log(min(max(len(query.text.split()), _SHORTEST), _LONGEST)),
    )


def _deviation(values: Floats) -> float:
    """Return how many standard deviations the first value stands above the mean of all."""
    return float((values[0] - values.mean()) / max(float(values.std()), 1e-3))


def words_met(snapshot: Snapshot, embedder: TokenEmbedder, asked: Tokens,
              passage: int) -> tuple[float, float]:  # fmt: skip
    """Return how well the question's words are met by the most similar words of a passage: the
    mean, and the mean of the third that is met least; both weighted by the words' vectors."""
    taken = [snapshot.tokens.row(int(unit)) for unit in snapshot.lexical.passages.row(passage)]
    flat = np.concatenate(taken) if taken else asked[:0]
    if not len(asked) or not len(flat):
        return 0.0, 0.0
    mine = np.add.reduceat(embedder.vectors_of(asked), np.flatnonzero(asked & 1), axis=0)
    theirs = np.add.reduceat(embedder.vectors_of(flat), np.flatnonzero(flat & 1), axis=0)
    weight = np.linalg.norm(mine, axis=1)
    best = (unit(mine) @ unit(theirs).T).max(axis=1)
    # The vectors of words that mean little are short (SIF weights, Arora et al. 2017).
    least = np.argsort(best * 1.0 + (weight < weight.mean() * 0.7))[: max(1, len(best) // 3)]
    mean = float(best @ weight / max(float(weight.sum()), 1e-9))
    return mean, float(best[least] @ weight[least] / max(float(weight[least].sum()), 1e-9))


def hits(snapshot: Snapshot, ranking: Ranking, k: int) -> list[Hit]:
    """Return the passages of the ranked sentences, best first, at most k."""
    _, first = np.unique(snapshot.sentence_passage[ranking.rows], return_index=True)
    order = np.sort(first)
    ranks = {
        "lexical": _ranks(ranking.lexical[order]),
        "dense": _ranks(ranking.dense[order]),
    }
    out = []
    for i, at in enumerate(order[:k].tolist()):
        number = int(snapshot.sentence_passage[ranking.rows[at]])
        passage = snapshot.passages[number]
        owner = int(snapshot.passage_document[number])
        document = snapshot.documents[owner]
        out.append(
            Hit(
                passage=passage,
                score=float(ranking.scores[at]),
                title=document.title,
                source=document.source,
                lexical_rank=ranks["lexical"][i],
                dense_rank=ranks["dense"][i],
                also=snapshot.also(owner),
            )
        )
    return out


def _ranks(scores: Floats) -> list[int | None]:
    """Return the rank of each score from 1, and None for nothing found."""
    place = np.empty(len(scores), np.int64)
    place[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return [int(p) if s > 0 else None for p, s in zip(place, scores, strict=True)]


# --- conversations -------------------------------------------------------------------------------

_LEANS = re.compile(
    r"(?:^|\s)(?:그|그는|그가|그의|그녀|그녀는|그들|그들은|이들|그것|그건|그게|거기|거기서|그곳|그곳에서|그 (?:사람|분|회사|기업|행사|때)"
    r"|그럼|그러면|그리고|또|이어서|왜요|더)(?=[\s?,]|$)"
    r"|\b(?:he|she|him|his|her|they|them|their|it|its|that|those|there|this)\b"
    r"|^(?:and|what about|how about|why|who else|what else)\b",
    re.I,
)
# Where a clause of a question ends and another begins.
_CLAUSE = re.compile(r",\s+|;\s*|(?<=[가-힣][고며])\s+|\s+(?=(?:and|but|or)\s)", re.I)
# How much of an earlier turn's weight is carried into a question that leans on it.
_CARRIED = 0.5


def carry_over(snapshot: Snapshot, embedder: Embedder, query: Query,
               history: Sequence[Message]) -> Query:  # fmt: skip
    """Add to a question that does not stand alone what the turn before was about.

    A question leans on the one before it if it has a pronoun or a connective of that kind, or
    no content word at all. Carried over, at half weight: the words of the last
    question, and the names in what was answered to it.
    """
    asked = [m["content"] for m in history if m["role"] == "user"]
    replied = [m["content"] for m in history if m["role"] == "assistant"]
    if not asked or (query.terms and not _leans(snapshot, query.text)):
        return query
    before = read(snapshot, embedder, asked[-1])
    if len(asked) > 1 and _leans(snapshot, before.text):
        before = carry_over(snapshot, embedder, before, history[: _last_question(history)])
    terms = list(before.terms)
    if replied:
        terms += snapshot.lexical.names_in(replied[-1])
    own = {term.surface for term in query.terms}
    carried = [
        replace(
            term,
            words=tuple((i, weight * _CARRIED) for i, weight in term.words),
            weight=term.weight * _CARRIED,
        )
        for term in terms
        if term.words and term.surface not in own
    ]
    held = {i for i, _ in query.pairs}
    vector = query.vector + _CARRIED * before.vector
    return replace(
        query,
        terms=query.terms + list({term.surface: term for term in carried}.values()),
        pairs=query.pairs + [(i, w * _CARRIED) for i, w in before.pairs if i not in held],
        pair_weight=query.pair_weight + _CARRIED * before.pair_weight,
        vector=unit(vector[None])[0],
    )


def _leans(snapshot: Snapshot, question: str) -> bool:
    """Tell whether a question leans on the turn before. A pronoun in a later clause speaks of what
    the first clause named: "Who spoke about China, and where does he work?" stands alone."""
    first = _CLAUSE.split(question, maxsplit=1)[0]
    named = first != question and snapshot.lexical.read(first)
    return bool(_LEANS.search(first if named else question))


def _last_question(history: Sequence[Message]) -> int:
    return max(i for i, message in enumerate(history) if message["role"] == "user")
