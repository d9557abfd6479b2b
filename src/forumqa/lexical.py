"""The lexical side: what a word is, and BM25 over it.

A build reads every sentence with Kiwi, a Korean morphological analyser, and leaves a table of the
words it met: their stem as written, the terms the stem stands for, and the particles and endings
behind it. A question is read with that table alone (longest match), so it meets the same terms
without loading Kiwi (a second of CPU and 300 MB).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from forumqa import text as tx

ANALYSER_VERSION = 1

# Kiwi's tags (세종 tag set): what carries meaning, and what a name is made of.
_NOUNS = {"NNG", "NNP", "NNB", "NR", "SL", "SN", "SH", "XR", "SW", "W_SERIAL"}
_VERBS = {"VV", "VA"}
# Nouns and verbs that hold a Korean clause together, as "thing", "do" and "be" do in English.
_LIGHT = frozenset(
    [
        "것",
        "수",
        "등",
        "바",
        "데",
        "때문",
        "듯",
        "채",
        "만큼",
        "뿐",
        "대로",
        "하다",
        "되다",
        "있다",
        "없다",
        "이다",
        "아니다",
        "않다",
        "못하다",
        "말다",
        "주다",
        "보다",
        "같다",
        "대하다",
        "관하다",
        "위하다",
        "통하다",
        "따르다",
        "의하다",
        "그렇다",
        "이렇다",
        "어떻다",
        "그러다",
        "이러다",
        "어떡하다",
        "어쩌다",
        "싶다",
        "말하다",
        "알리다",
        "알다",
        "가다",
        "오다",
        "나",
        "너",
        "우리",
        "무엇",
        "뭐",
        "누구",
        "언제",
        "어디",
        "왜",
        "어떻",
        "어떤",
        "어느",
        "무슨",
        "몇",
        "얼마",
        "얼마나",
        "어떻게",
        "이",
        "그",
        "저",
        "해당",
        "건",
        "점",
        "대해",
        "관련",
        "이번",
        "대한",
        "관한",
        "및",
        "또",
        "또는",
        "더",
        "좀",
        "다",
        "잘",
    ]
)
_ENGLISH_STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "to",
        "in",
        "on",
        "at",
        "by",
        "for",
        "from",
        "with",
        "without",
        "about",
        "into",
        "over",
        "under",
        "as",
        "and",
        "or",
        "but",
        "not",
        "no",
        "nor",
        "so",
        "if",
        "than",
        "then",
        "that",
        "this",
        "these",
        "those",
        "there",
        "here",
        "it",
        "its",
        "he",
        "him",
        "his",
        "she",
        "her",
        "they",
        "them",
        "their",
        "we",
        "us",
        "our",
        "you",
        "your",
        "i",
        "me",
        "my",
        "who",
        "whom",
        "whose",
        "what",
        "which",
        "when",
        "where",
        "why",
        "how",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "am",
        "do",
        "does",
        "did",
        "done",
        "doing",
        "have",
        "has",
        "had",
        "having",
        "will",
        "would",
        "shall",
        "should",
        "can",
        "could",
        "may",
        "might",
        "must",
        "s",
        "t",
        "d",
        "ll",
        "re",
        "ve",
        "m",
        "please",
        "tell",
        "say",
        "says",
        "said",
        "any",
        "some",
    ]
)


class Word(NamedTuple):
    """One analysed word: ``stem + tail`` is how it stands in the text, folded."""

    stem: str
    tail: str
    terms: tuple[str, ...]
    names: tuple[str, ...]


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer("english")


@lru_cache(maxsize=65536)
def latin_term(word: str) -> str:
    """Return the index term of a folded Latin word: its English stem, short words as they are."""
    word = word.removesuffix("'s")
    return str(_stemmer().stemWord(word)) if len(word) > 3 else word


class Analyser:
    """Reads text with Kiwi. Loading takes about half a second of CPU and 260 MB; used by builds
    alone. The dictionaries for multi-word entries and typo correction are left out: without them
    the same paragraphs are read in half the time."""

    def __init__(self) -> None:
        from kiwipiepy import Kiwi

        self._kiwi = Kiwi(num_workers=2, load_typo_dict=False, load_multi_dict=False)

    def words(self, sentences: Sequence[str]) -> Iterable[list[Word]]:
        """Yield the words of each sentence."""
        texts = [unicodedata.normalize("NFKC", sentence) for sentence in sentences]
        for text, morphemes in zip(texts, self._kiwi.tokenize(texts), strict=True):
            yield list(self._group(text.lower(), morphemes))

    @staticmethod
    def _group(sentence: str, morphemes: Sequence[Any]) -> Iterable[Word]:
        groups: dict[int, list[Any]] = {}
        for morpheme in morphemes:
            groups.setdefault(morpheme.word_position, []).append(morpheme)
        for group in groups.values():
            run: list[Any] = []
            # Latin words and numbers are words of their own, whatever is glued to them.
            for morpheme in group:
                if morpheme.tag in ("SL", "SN") or morpheme.tag[0] == "S":
                    yield from _word(sentence, run)
                    run = []
                    if morpheme.tag in ("SL", "SN", "SH"):
                        yield from _plain(morpheme.form)
                else:
                    run.append(morpheme)
            yield from _word(sentence, run)


def _plain(form: str) -> Iterable[Word]:
    for written in tx.TOKEN.findall(form):
        if _is_stop_word(written):
            continue
        token = written.lower()
        term = latin_term(token) if token[0].isascii() and token[0].isalpha() else number(token)
        yield Word(token, "", (term,), ())


def _is_stop_word(written: str) -> bool:
    """English function words, but not "IT", "US" or "ITS", which are names."""
    return written.lower() in _ENGLISH_STOP and not (len(written) > 1 and written.isupper())


def number(token: str) -> str:
    """Return the term of a number: no thousands separators."""
    return re.sub(r"(?<=\d),(?=\d{3})", "", token)


def _word(sentence: str, run: list[Any]) -> Iterable[Word]:
    if not run:
        return
    terms: list[str] = []
    names: list[str] = []
    start = run[0].start
    stem_end = start
    nouns = True
    for i, morpheme in enumerate(run):
        tag = morpheme.tag.split("-")[0]
        if tag in _NOUNS or tag == "MAG" or tag == "XSN" or tag == "XPN":
            term = tx.fold(morpheme.form)
        elif tag in _VERBS:
            term = tx.fold(morpheme.form) + "다"
            nouns = False
        else:
            continue
        if tag == "XSN" and not terms:
            continue
        end = morpheme.start + morpheme.len
        # An ending may share its first syllable with the stem: 나서+었 is written 나섰.
        if tag in _VERBS and i + 1 < len(run) and run[i + 1].start < end:
            end = max(end, min(run[i + 1].start + run[i + 1].len, end + 1))
        if term not in _LIGHT:
            stem_end = max(stem_end, end)
            terms.append(term)
            if tag == "NNP":
                names.append(term)
    whole_end = max(m.start + m.len for m in run)
    stem, tail = sentence[start:stem_end], sentence[stem_end:whole_end]
    if terms and nouns and 2 <= len(stem) <= 4 and stem not in names:
        names.append(stem)
    yield Word(stem, tail, tuple(dict.fromkeys(terms)), tuple(dict.fromkeys(names)))
    letters, taken = tx.spelled_letters(stem)
    if len(letters) >= 3 and taken <= len(stem):
        yield Word(stem[:taken], "", (letters,), ())
        if len(stem) - taken >= 2:
            yield Word(stem[taken:], "", (stem[taken:],), ())


# --- BM25 --------------------------------------------------------------------------------------


class Postings:
    """BM25 over units (sentences or passages), scored when built as in BM25S (Lù 2024).

    A term's idf is ``log(1 + (N - df + 0.5) / (df + 0.5))``, as in Lucene. ``impacts`` hold
    idf times the saturated frequency, so that a query adds them up.
    """

    def __init__(self, indptr: NDArray[np.int64], units: NDArray[np.int32],
                 impacts: NDArray[np.float32], count: int) -> None:  # fmt: skip
        self.indptr, self.units, self.impacts, self.count = indptr, units, impacts, count
        df = np.diff(indptr)
        self.idf = np.log1p((count - df + 0.5) / (df + 0.5)).astype(np.float32)

    @classmethod
    def build(cls, lists: Ragged, terms: int, k1: float = 1.2, b: float = 0.75) -> Postings:
        """``lists`` holds the term ids of each unit; ``terms`` is the size of the vocabulary."""
        count = len(lists)
        lengths = np.diff(lists.indptr)
        unit_of = np.repeat(np.arange(count, dtype=np.int64), lengths)
        pairs, frequency = np.unique(
            lists.values.astype(np.int64) * max(count, 1) + unit_of, return_counts=True
        )
        term_of, units = np.divmod(pairs, max(count, 1))
        df = np.bincount(term_of, minlength=terms)
        indptr = np.concatenate([[0], np.cumsum(df)]).astype(np.int64)
        idf = np.log1p((count - df + 0.5) / (df + 0.5))
        mean = max(float(lengths.mean()), 1e-9) if count else 1.0
        norm = k1 * (1 - b + b * lengths[units] / mean)
        impacts = idf[term_of] * frequency * (k1 + 1) / (frequency + norm)
        return cls(indptr, units.astype(np.int32), impacts.astype(np.float32), count)

    def score(self, query: Iterable[tuple[int, float]]) -> NDArray[np.float32]:
        """Return the score of every unit for (term id, weight) pairs; float32 of shape (count,)."""
        out = np.zeros(self.count, np.float32)
        for term, weight in query:
            here = slice(self.indptr[term], self.indptr[term + 1])
            out[self.units[here]] += weight * self.impacts[here]
        return out

    def score_best(self, groups: Iterable[Sequence[tuple[int, float]]]) -> NDArray[np.float32]:
        """As :meth:`score`, but of each group of alternatives a unit takes the best one only."""
        out = np.zeros(self.count, np.float32)
        for group in groups:
            if len(group) == 1:
                term, weight = group[0]
                here = slice(self.indptr[term], self.indptr[term + 1])
                out[self.units[here]] += weight * self.impacts[here]
            elif group:
                best = np.zeros(self.count, np.float32)
                for term, weight in group:
                    here = slice(self.indptr[term], self.indptr[term + 1])
                    at = self.units[here]
                    best[at] = np.maximum(best[at], weight * self.impacts[here])
                out += best
        return out


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths: row i is ``values[indptr[i]:indptr[i + 1]]``."""

    indptr: NDArray[np.int64]
    values: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, i: int) -> NDArray[np.int32]:
        return self.values[self.indptr[i] : self.indptr[i + 1]]

    def head(self, rows: int) -> Ragged:
        """The first rows."""
        return Ragged(self.indptr[: rows + 1], self.values[: self.indptr[rows]])

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> Ragged:
        lengths: list[int] = [0]
        values: list[int] = []
        for row in rows:
            lengths.append(len(row))
            values.extend(row)
        return cls(np.cumsum(lengths, dtype=np.int64), np.array(values, np.int32))


# --- questions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueryTerm:
    """One content word of a question.

    ``words`` are alternatives as (term id, weight); ``weight`` is the idf of the word, or that of
    a word that stands nowhere (the largest) where nothing matches. ``exact`` is False where only a
    similar spelling was found.
    """

    surface: str
    words: tuple[tuple[int, float], ...]
    weight: float
    exact: bool = True


@lru_cache(maxsize=1)
def functional_forms() -> frozenset[str]:
    """Particles, endings and whole words without content, as written, from the shipped list."""
    path = resources.files("forumqa") / "data" / "functional.txt"
    return frozenset(path.read_text(encoding="utf-8").split())


class LexicalIndex:
    """What the lexical side knows of one generation.

    ``table`` has a row for each distinct analysed word, and ``words`` lists the rows of each unit:
    all sentences first, then the titles and headings. ``passages`` lists the units of every
    passage, its title and heading included. ``pairs`` and ``pair_rows`` are the character pairs of
    the units.
    """

    def __init__(self, table: list[Word], words: Ragged, passages: Ragged, sentences: int,
                 pairs: list[str], pair_rows: Ragged) -> None:  # fmt: skip
        self.table, self.words, self.passages, self.sentences = table, words, passages, sentences
        self.pairs, self.pair_rows = pairs, pair_rows

    def prepare(self) -> LexicalIndex:
        """Derive what questions need, a second per hundred thousand sentences, and return itself.

        A build that writes a generation, and one that builds on it, need none of it.
        """
        self._ids: dict[str, int] = {}
        stems: dict[str, tuple[int, ...]] = {}
        names: dict[str, tuple[int, ...]] = {}
        self._tails = set(functional_forms())
        term_rows: list[tuple[int, ...]] = []
        ids, add = self._ids, self._tails.add
        for stem, tail, terms, named in self.table:
            row = tuple([ids.setdefault(term, len(ids)) for term in terms])
            term_rows.append(row)
            if row:
                before = stems.get(stem)
                stems[stem] = row if before in (None, row) else _joined(before, row)
            for name in named:
                target = (ids[name],) if name in ids else row
                before = names.get(name)
                names[name] = target if before in (None, target) else _joined(before, target)
            if tail:
                add(tail)
        self.terms = list(self._ids)
        self._stems, self._name_terms = stems, names
        self._longest = max(map(len, self._stems), default=1)
        self._pair_ids = {pair: i for i, pair in enumerate(self.pairs)}
        of_unit = _expand(self.words, Ragged.of(term_rows))
        self._of_passage = _expand(self.passages, of_unit)
        self.by_sentence = Postings.build(of_unit.head(self.sentences), len(self._ids))
        self.by_passage = Postings.build(self._of_passage, len(self._ids))
        pair_rows, pairs = self.pair_rows, len(self.pairs)
        self.pairs_by_sentence = Postings.build(pair_rows.head(self.sentences), pairs)
        self.pairs_by_passage = Postings.build(_expand(self.passages, pair_rows), pairs)
        return self

    @cached_property
    def _spelled(self) -> dict[str, str]:
        """Every stem of two letters or more, taken apart into jamo."""
        return {stem: tx.jamo(stem) for stem in self._stems if len(stem) >= 2}

    @cached_property
    def _names(self) -> dict[str, tuple[int, ...]]:
        """Terms by the sound key of the names they write."""
        keyed: dict[str, dict[int, None]] = {}
        for name, ids in self._name_terms.items():
            key = name_key(name)
            if len(key) >= 3:
                keyed.setdefault(key, {}).update(dict.fromkeys(ids))
        return {key: tuple(ids) for key, ids in keyed.items()}

    @property
    def unseen_weight(self) -> float:
        """The idf of a word that stands nowhere."""
        return math.log1p((self.by_sentence.count + 0.5) / 0.5)

    def terms_of_passage(self, passage: int) -> NDArray[np.int32]:
        """Return the term ids of a passage, its title and heading included."""
        return self._of_passage.row(passage)

    def names_in(self, text: str) -> list[QueryTerm]:
        """Return those words of a text that are names in the material."""
        names = {i for ids in self._name_terms.values() for i in ids}
        return [t for t in self.read(text) if t.exact and any(i in names for i, _ in t.words)]

    # -- reading a question ---------------------------------------------------------------------

    def read(self, question: str) -> list[QueryTerm]:
        """Return the content words of a question, in order, each once."""
        found: dict[str, QueryTerm] = {}
        written = unicodedata.normalize("NFKC", question)
        # In a line of capitals they tell nothing; Hangul has none.
        shouting = written.isupper() and tx.language_of(written) == "en"
        matches = list(tx.TOKEN.finditer(written))
        stop = [_is_stop_word(m.group().lower() if shouting else m.group()) for m in matches]
        tokens = [(m.group().lower(), m.start(), m.end()) for m in matches]
        named = self._named([token for token, _, _ in tokens], stop)
        for i, (token, start, _) in enumerate(tokens):
            glued = i > 0 and tokens[i - 1][2] == start
            if i in named:
                terms = [named[i]] if named[i].surface not in found else []
            elif stop[i]:
                terms = []
            elif token[0].isascii():
                terms = self._read_plain(token)
            elif glued and (token in self._tails or not tokens[i - 1][0][0].isascii()):
                terms = []
            else:
                terms = self._read_hangul(token)
            for term in terms:
                found.setdefault(term.surface, term)
        return list(found.values())

    def pairs_of(self, question: str) -> list[tuple[int, float]]:
        """Return the (id, weight) of the question's character pairs that the index knows."""
        ids = (self._pair_ids.get(pair) for pair in tx.bigrams(question))
        return [(i, 1.0) for i in dict.fromkeys(ids) if i is not None]

    def _term(self, surface: str, ids: Iterable[int], weight: float = 1.0) -> list[QueryTerm]:
        """One QueryTerm per term a stem stands for (a compound stands for its parts)."""
        return [
            QueryTerm(self.terms[i], ((i, weight),), float(self.by_sentence.idf[i])) for i in ids
        ]

    def _read_plain(self, token: str) -> list[QueryTerm]:
        if token[0].isdigit():
            term = number(token)
            if term in self._ids:
                return self._term(term, [self._ids[term]])
            return [QueryTerm(term, (), self.unseen_weight)]
        term = latin_term(token)
        if term in self._ids:
            return self._term(term, [self._ids[term]])
        parts = self._split_latin(token)
        if parts:
            return self._term(token, parts)
        return [self._similar(term)]

    def _split_latin(self, letters: str) -> list[int]:
        """Cut "lgcns" into "lg" + "cns" where both stand in the material."""
        if letters in self._ids:
            return [self._ids[letters]]
        for cut in range(2, len(letters) - 1):
            left, right = letters[:cut], letters[cut:]
            if left in self._ids and right in self._ids:
                return [self._ids[left], self._ids[right]]
        return []

    def _read_hangul(self, token: str) -> list[QueryTerm]:
        if token in self._tails and token not in self._stems:
            return []
        letters, taken = tx.spelled_letters(token)
        if letters and (taken == len(token) or token[taken:] in self._tails or len(letters) > 2):
            for size in range(len(letters), 1, -1):
                ids = self._split_latin(letters[:size])
                if ids and size == len(letters):
                    rest = token[taken:]
                    more = self._read_hangul(rest) if rest and rest not in self._tails else []
                    return self._term(token, ids) + more
        out: list[QueryTerm] = []
        for piece, known in self._segment(token):
            if known:
                out.extend(self._term(piece, self._stems[piece]))
            elif piece not in _LIGHT:
                out.append(self._similar(piece))
        return out

    def _segment(self, token: str) -> list[tuple[str, bool]]:
        """Cut a Hangul run into known stems, endings (dropped) and unknown stretches.

        The cheapest cover wins: few long stems, endings behind a stem, unknown syllables last.
        """
        size = len(token)
        # best[i] = (cost, previous cut, kind) of the cheapest cover of token[:i]
        best: list[tuple[float, int, str]] = [(0.0, 0, "")] + [(math.inf, 0, "")] * size
        for i in range(size):
            cost, _, kind = best[i]
            for j in range(i + 1, min(size, i + max(self._longest, 12)) + 1):
                piece = token[i:j]
                length = j - i
                steps: list[tuple[float, str]] = [(2.5 + 1.3 * length, "unknown")]
                if piece in self._stems:
                    steps.append((2.6 if length == 1 else 1.0 + 0.2 / length, "stem"))
                if i and piece in self._tails:
                    again = 0.8 if kind == "tail" else 0.0
                    steps.append((again + (0.4 if j == size else 1.6), "tail"))
                for step, name in steps:
                    if name == "unknown" and kind == "unknown":
                        continue
                    if cost + step < best[j][0]:
                        best[j] = (cost + step, i, name)
        pieces: list[tuple[str, bool]] = []
        at = size
        while at:
            _, previous, kind = best[at]
            if kind != "tail":
                pieces.append((token[previous:at], kind == "stem"))
            at = previous
        return pieces[::-1]

    def _similar(self, piece: str) -> QueryTerm:
        """A word that stands nowhere: what is spelled almost alike, at a lower weight.

        One edit among the letters (Hangul syllables taken apart) for each five, at most two.
        """
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        # A stray syllable is more often a counter or an ending than a subject.
        share = 0.3 if len(piece) == 1 and not piece.isascii() else 1.0
        unknown = QueryTerm(piece, (), share * self.unseen_weight)
        letters = tx.jamo(piece)
        edits = min(len(letters) // 5, 2)
        if len(piece) < 2 or not edits:
            return unknown
        near = process.extract(
            letters, self._spelled, scorer=OSA.distance, score_cutoff=edits, limit=3
        )
        words: dict[int, float] = {}
        for _, distance, key in near:
            for i in self._stems[key]:
                words.setdefault(i, 0.8 - 0.2 * distance)
        if not words:
            return unknown
        weight = max(float(self.by_sentence.idf[i]) for i in words)
        return QueryTerm(piece, tuple(words.items()), weight, exact=False)

    def _named(self, tokens: Sequence[str], stop: Sequence[bool]) -> dict[int, QueryTerm]:
        """Find romanised names: "Kim Jun-yeon", "Junyeon Kim", "Goyang" -> 김준연, 고양."""
        out: dict[int, QueryTerm] = {}
        usable = [
            t[0].isascii() and t.isalpha() and t not in self._ids and latin_term(t) not in self._ids
            for t in tokens
        ]
        for size in (3, 2, 1):
            for i in range(len(tokens) - size + 1):
                if not all(usable[i : i + size]) or any(k in out for k in range(i, i + size)):
                    continue
                # "in" is a preposition, and half of the name In-sang.
                if all(stop[i : i + size]) or stop[i]:
                    continue
                parts = tokens[i : i + size]
                orders = [parts, [*parts[-1:], *parts[:-1]]] if size > 1 else [parts]
                for order in orders:
                    key = _join_keys(tx.sound_key(p) for p in order)
                    ids = self._names.get(key, ()) if len(key) >= 3 else ()
                    if ids:
                        surface = " ".join(parts)
                        idf = max(float(self.by_sentence.idf[t]) for t in ids)
                        term = QueryTerm(surface, tuple((t, 1.0) for t in ids), idf)
                        out.update(dict.fromkeys(range(i, i + size), term))
                        break
        return out


def _joined(before: tuple[int, ...] | None, more: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys((before or ()) + more))


def _expand(rows: Ragged, table: Ragged) -> Ragged:
    """Replace each table row in ``rows`` by the term ids that it stands for."""
    lengths = np.diff(table.indptr)[rows.values]
    starts = table.indptr[:-1][rows.values]
    total = int(lengths.sum())
    ends = np.cumsum(lengths)
    offsets = np.arange(total) - np.repeat(ends - lengths, lengths) + np.repeat(starts, lengths)
    indptr = np.concatenate([[0], ends])[rows.indptr]
    return Ragged(indptr.astype(np.int64), table.values[offsets])


def _join_keys(keys: Iterable[str]) -> str:
    return re.sub(r"(.)\1+", r"\1", "".join(keys))


@lru_cache(maxsize=65536)
def name_key(hangul: str) -> str:
    """Return the sound key of a name in Hangul, syllable by syllable, as names are romanised."""
    return _join_keys(tx.sound_key(romanize(syllable)) for syllable in hangul)


@lru_cache(maxsize=16384)
def romanize(syllable: str) -> str:
    """Return the Revised Romanisation of one Hangul syllable."""
    from hangul_romanize import Transliter
    from hangul_romanize.rule import academic

    return str(Transliter(academic).translit(syllable))


K = TypeVar("K", Word, str)


def merge(old: Ragged, reuse: NDArray[np.int64], fresh: Ragged) -> Ragged:
    """Return rows taken from ``old`` (row ``reuse[i]``) or, where that is -1, from ``fresh`` in
    order."""
    both = Ragged(
        np.concatenate([old.indptr, fresh.indptr[1:] + old.indptr[-1]]),
        np.concatenate([old.values, fresh.values]),
    )
    pick = reuse.copy()
    pick[reuse < 0] = len(old) + np.arange(len(fresh))
    every = Ragged(np.arange(len(pick) + 1, dtype=np.int64), pick.astype(np.int32))
    return _expand(every, both)


def recode(old_keys: Sequence[K], old_rows: Ragged, reuse: NDArray[np.int64],
           fresh: Iterable[Sequence[K]]) -> tuple[list[K], Ragged]:  # fmt: skip
    """Merge rows of keys (see :func:`merge`); return the keys in use, sorted, and the rows.

    The order of the keys does not depend on what was reused, so that a build on top of another
    equals a build from nothing.
    """
    keys: dict[K, int] = {key: i for i, key in enumerate(old_keys)}
    fresh_rows = Ragged.of([[keys.setdefault(key, len(keys)) for key in row] for row in fresh])
    rows = merge(old_rows, reuse, fresh_rows)
    names = list(keys)
    used = np.flatnonzero(np.bincount(rows.values, minlength=len(names)))
    order = sorted(used.tolist(), key=names.__getitem__)
    place = np.zeros(len(names), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return [names[i] for i in order], Ragged(rows.indptr, place[rows.values])


EMPTY = Ragged(np.zeros(1, np.int64), np.zeros(0, np.int32))
