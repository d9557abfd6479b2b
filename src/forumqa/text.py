"""Pure functions on strings: normal form, scripts, words, sentences, letter names, spellings.

Korean and English, from the standard library alone. Offsets count code points of the string
given, which callers have brought to NFC with :func:`normalize`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

HANGUL = "가-힣"
_HANGUL_RUN = re.compile(f"[{HANGUL}ㄱ-ㅎㅏ-ㅣ]")
_LATIN = re.compile(r"[A-Za-z]")
# One token of text: a run of Hangul, of Latin letters, of digits (with inner marks) or one Han sign.
TOKEN = re.compile(
    rf"[{HANGUL}ㄱ-ㅎㅏ-ㅣ]+|[A-Za-z]+(?:'[A-Za-z]+)?|\d+(?:[.,]\d+)*|[\u4e00-\u9fff]"
)
_LINE_END = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Controls, marks without width, directions (which can show a quote otherwise than it reads), halves
# of surrogate pairs, and the private use areas, where fonts of office programs keep their bullets.
_CONTROL = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    r"\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff\U000f0000-\U0010ffff]"
)


def normalize(text: str) -> str:
    """Return text in NFC with ``\\n`` line ends, without control, zero-width and private-use
    characters."""
    text = _CONTROL.sub("", _LINE_END.sub("\n", text)).replace("\xa0", " ")
    return unicodedata.normalize("NFC", text)


@lru_cache(maxsize=65536)
def fold(word: str) -> str:
    """Return the form in which words are compared: NFKC, lower case."""
    return unicodedata.normalize("NFKC", word).lower()


def language_of(text: str) -> str:
    """Return "ko" or "en": which alphabet carries the text.

    A Hangul syllable says about as much as two or three Latin letters, hence the factor; a Korean
    question about "LG CNS" is Korean, and so is one that holds nothing but digits.
    """
    hangul = len(_HANGUL_RUN.findall(text))
    latin = len(_LATIN.findall(text))
    return "ko" if hangul * 3 >= latin else "en"


def tokens(text: str) -> list[str]:
    """Return the folded tokens of text: "LG CNS는 120명" -> lg, cns, 는, 120, 명."""
    return TOKEN.findall(fold(text))


def bigrams(text: str) -> list[str]:
    """Return the overlapping character pairs of the Hangul words of a text.

    A word of one syllable, a Latin word and a number stand for themselves.
    """
    out: list[str] = []
    for token in tokens(text):
        if len(token) == 1 or token[0] < "ㄱ":
            out.append(token)
        else:
            out.extend(token[i : i + 2] for i in range(len(token) - 1))
    return out


# --- sentences ---------------------------------------------------------------------------------

_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|Inc|Ltd|Co|Corp|No|Fig|Vol|pp|approx|dept|est"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|Gov|Gen|Sen|Rep|Rev|Hon|e\.g|i\.e|cf|al"
    r"|U\.S|U\.K|U\.N|a\.m|p\.m|Ph\.D)|\b[A-Z])\.$",
)
_DATE = re.compile(r"\d{4}\.\s?\d{1,2}\.(?:\s?\d{1,2}\.)?$")
_END = re.compile(r"[.!?。…！？]+")
_CLOSERS = "\"'”’」』》〉)]}）］"
_PAIRS = {"“": "”", "「": "」", "『": "』", "(": ")", "（": "）", "[": "]", "《": "》"}
# What glues a quotation to the clause that reports it: "…한다."고 말했다, "…" 라며.
_REPORTING = re.compile(
    r"\s?(?:이?라고|이?라며|이?라는|고|며|면서|는|은|을|를|이|가|라|에|와|과|도|등)(?![가-힣]{3})"
)
_LIST_ITEM = re.compile(r"^\s*(?:[-*•▲△■□○●◇◆※·▶]|\d{1,2}[.)]\s|[가-하][.)]\s|[①-⑳])")
# A quotation or bracket longer than this is a mistake of the text, not a reason to go on.
_MAX_NESTED = 400


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the (start, end) of every sentence of ``text``, in order, without outer white space.

    A sentence ends at ``. ! ? …`` and their closing quotes, when white space, the end, or (after a
    Korean "다.") another syllable follows; not after abbreviations and initials, not inside
    numbers and dates, not inside a quotation or bracket. A blank line ends one always; a single
    line break does where a list item or a finished sentence meets it.
    """
    spans: list[tuple[int, int]] = []
    for start, end in _blocks(text):
        spans.extend(_split_block(text, start, end))
    return spans


def _blocks(text: str) -> list[tuple[int, int]]:
    """Cut at blank lines, before list items, and after lines that stand alone (headings)."""
    blocks: list[tuple[int, int]] = []
    start = 0
    for match in re.finditer(r"\n", text):
        rest = text[match.end() : match.end() + 80]
        line = text[start : match.start()].rpartition("\n")[2].rstrip()
        alone = rest[:1] == "\n" or not line.strip() or rest.lstrip(" \t")[:1] == "\n"
        ended = line[-1:] in ".!?…。" or line[-1:] in _CLOSERS
        if alone or ended or line.startswith("#") or _LIST_ITEM.match(rest):
            blocks.append((start, match.start()))
            start = match.end()
    blocks.append((start, len(text)))
    return blocks


def _split_block(text: str, start: int, end: int) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    begin = start
    for match in _END.finditer(text, start, end):
        stop = match.end()
        if stop <= begin:
            continue
        while stop < end and text[stop] in _CLOSERS:
            stop += 1
        if not _is_boundary(text, begin, match.start(), match.end(), stop, end):
            continue
        spans.append((begin, stop))
        begin = stop
    spans.append((begin, end))
    return [trimmed for span in spans if (trimmed := _trim(text, *span))]


def _is_boundary(text: str, begin: int, mark: int, mark_end: int, stop: int, end: int) -> bool:
    if stop >= end:
        return True
    following = text[stop]
    before = text[begin:mark_end]
    if not following.isspace():
        glued = text[mark - 1 : mark] in ("다", "요", "까") and following >= "가"
        return glued and stop == mark_end and not _open_quote(text[begin:stop])
    if text[mark] == "." and mark_end - mark == 1:
        if _ABBREVIATION.search(before) or _DATE.search(before):
            return False
        # "2018. 5." and "1. 개요": a number before the point and no finished clause.
        if re.search(r"(?:^|[\s(])\d{1,4}\.$", before) and (
            re.match(r"\s*\d", text[stop:end]) or not before[:-1].strip(" \t0123456789.")
        ):
            return False
    if re.match(r"\s+[a-z]", text[stop:end]):
        return False
    if stop > mark_end and _REPORTING.match(text[stop:end]) and text[stop] != " ":
        return False
    return not _open_quote(text[begin:stop])


def _open_quote(fragment: str) -> bool:
    """Tell whether a quotation or bracket that began in the fragment is still open at its end."""
    if len(fragment) > _MAX_NESTED:
        return False
    if any(fragment.count(left) > fragment.count(right) for left, right in _PAIRS.items()):
        return True
    return fragment.count('"') % 2 == 1


def _trim(text: str, start: int, end: int) -> tuple[int, int] | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if any(ch.isalnum() for ch in text[start:end]) else None


# --- spellings ---------------------------------------------------------------------------------

# Names of the Latin letters in Hangul (National Institute of Korean Language, 외래어 표기법), with
# the spellings people use beside them.
_LETTER_NAMES = {
    "에이": "a", "비": "b", "씨": "c", "시": "c", "디": "d", "이": "e", "에프": "f", "지": "g",
    "쥐": "g", "에이치": "h", "에치": "h", "아이": "i", "제이": "j", "케이": "k", "엘": "l",
    "엠": "m", "엔": "n", "오": "o", "피": "p", "큐": "q", "알": "r", "아르": "r", "에스": "s",
    "티": "t", "유": "u", "브이": "v", "더블유": "w", "더블류": "w", "엑스": "x", "와이": "y",
    "제트": "z", "지트": "z",
}  # fmt: skip


@lru_cache(maxsize=65536)
def spelled_letters(hangul: str) -> tuple[str, int]:
    """Read the front of a Hangul run as Latin letter names: "엘지씨엔에스는" -> ("lgcns", 6).

    Returns the letters and how many syllables they take; ("", 0) where fewer than two letters can
    be read. The longest name wins at each step, and the reading that covers most syllables.
    """

    @cache
    def read(at: int) -> tuple[int, str]:
        best = (at, "")
        for size in (3, 2, 1):
            letter = _LETTER_NAMES.get(hangul[at : at + size])
            if letter and len(hangul[at : at + size]) == size:
                stop, rest = read(at + size)
                if stop > best[0]:
                    best = (stop, letter + rest)
        return best

    stop, letters = read(0)
    return (letters, stop) if len(letters) >= 2 else ("", 0)


def jamo(word: str) -> str:
    """Return the word with Hangul syllables taken apart, so that a typo is one edit."""
    return unicodedata.normalize("NFD", word)


# Latin spellings of one Korean sound that people use side by side, brought to one letter each:
# Lee/Yi/Rhee, Park/Bak, Choi/Choe, Yoo/Yu, Jun/Joon, Noh/Roh/No, Young/Yeong, Woo/U, Kyu/Gyu.
_SURNAMES = {
    "lee": "i", "rhee": "i", "yi": "i", "ree": "i", "ri": "i", "park": "bak", "pak": "bak",
    "bark": "bak", "choi": "choe", "chung": "jeong", "noh": "no", "roh": "no", "kwon": "gwon",
    "yoon": "yun", "moon": "mun", "woo": "u", "oh": "o", "ahn": "an", "shin": "sin", "lim": "im",
    "rim": "im", "yim": "im", "ryu": "yu", "yoo": "yu", "you": "yu", "hur": "heo", "huh": "heo",
    "paik": "baek", "law": "na", "ra": "na", "cho": "jo", "chang": "jang", "kang": "gang",
    "koo": "gu", "ku": "gu", "suh": "seo", "seoh": "seo", "sung": "seong", "lyu": "yu",
}  # fmt: skip
_SOUNDS = (
    ("sh", "s"), ("ch", "j"), ("kk", "g"), ("tt", "d"), ("pp", "b"), ("ss", "s"), ("jj", "j"),
    ("ph", "p"), ("yeo", "yo"), ("eo", "o"), ("eu", "u"), ("ae", "e"), ("oe", "we"), ("oi", "we"),
    ("ui", "i"), ("ee", "i"), ("oo", "u"), ("ou", "u"), ("yu", "u"), ("yo", "o"), ("ya", "a"),
    ("wo", "o"), ("k", "g"), ("t", "d"), ("p", "b"), ("r", "l"), ("f", "b"), ("v", "b"),
    ("z", "j"), ("x", "gs"), ("h", ""), ("u", "o"),
)  # fmt: skip


@lru_cache(maxsize=65536)
def sound_key(latin: str) -> str:
    """Return a key in which the usual Latin spellings of one Korean sound coincide.

    Made for names: "Jun-yeon", "Joonyeon" and "junyeon" give one key. Deliberately coarse, in the
    manner of Soundex; only ever compared with keys of words that stand in the material.
    """
    word = re.sub(r"[^a-z]", "", latin.lower())
    word = _SURNAMES.get(word, word)
    for spelled, sound in _SOUNDS:
        word = word.replace(spelled, sound)
    return re.sub(r"(.)\1+", r"\1", word)
