"""Turns the sources into named groups of text pairs: WORK/groups/*.jsonl, and holds dev data out.

usage: python -m training.prepare --data DATA --work WORK [--all]
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from training import sources
from training.sources import Article, Entry, Pair, log

NEWS = Path(__file__).parent / "news"
GENERAL = ("ntrex", "news", "nknews", "jhe", "tatoeba", "osguide")
"""Parallel sentences of everyday and news language; HELD_OUT_FROM of them give the dev pairs."""
HELD_OUT_FROM = ("ntrex", "news", "nknews", "tatoeba")
ONE_IN = 8
"""One in so many parallel sentences, encyclopaedia passages and paraphrase clusters is for dev."""
PASSAGE = 900
"""Characters of a passage that are used: a static model averages, so a longer one says no more."""
ADOBE = 90_000
"""Lines of product documentation: it is narrow, and more of it did not help."""
PER_SOURCE = 12_000
"""Heading and sentence pairs taken from one source of documents."""


def write_rows(path: Path, rows: Iterable[Any]) -> int:
    """Writes JSON lines and returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def sentences(text: str) -> list[str]:
    """Sentences of a paragraph, roughly; shorter ones than nine characters say too little."""
    return [part.strip() for part in re.split(r"(?<=[.!?。])\s+", text) if len(part.strip()) > 8]


def headings(blocks: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """Heading (half the time after the title) with the text of its section."""
    title = blocks[0][1] if blocks and blocks[0][0] == "h" else ""
    found: list[Pair] = []
    heading, body = "", ""
    for kind, text in [*blocks, ("h", "")]:
        if kind == "p":
            body += " " + text
            continue
        if heading and len(body) > 60:
            long = title and heading != title and rng.random() < 0.5
            found.append((f"{title} {heading}" if long else heading, body[:PASSAGE].strip()))
        heading, body = text, ""
    return found


def inverse_cloze(blocks: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """A sentence with the rest of its paragraph (Lee et al. 2019, arXiv:1906.00300)."""
    found: list[Pair] = []
    for kind, text in blocks:
        if kind != "p" or len(text) < 80:
            continue
        parts = sentences(text)
        if len(parts) == 2:
            found.append((parts[0], parts[1]))
        elif len(parts) > 2:
            for index in rng.sample(range(len(parts)), min(len(parts), 2 if len(parts) < 8 else 4)):
                rest = parts[max(0, index - 4) : index] + parts[index + 1 : index + 5]
                found.append((parts[index], " ".join(rest)[:PASSAGE]))
    return found


def news_groups(articles: Sequence[Article]) -> dict[str, list[Pair]]:
    """Pairs of whole articles, titles and questions; questions with their answers."""
    groups: dict[str, list[Pair]] = {
        name: []
        for name in ("news_parallel", "news_answer", "news_cross", "news_same", "news_passage")
    }
    groups["news_title"] = []
    for article in articles:
        korean = " ".join(ko for ko, _ in article.sentences)[:PASSAGE]
        english = " ".join(en for _, en in article.sentences)[:PASSAGE]
        titles = (article.title_ko, article.title_en)
        groups["news_parallel"] += [*article.sentences, titles]
        groups["news_title"] += [(titles[0], korean), (titles[1], korean), (titles[1], english)]
        for question in article.questions:
            asked_ko = (question.ko, *question.paraphrases_ko)
            asked_en = (question.en, *question.paraphrases_en)
            for index in question.answer:
                ko, en = article.sentences[index]
                groups["news_answer"] += [(asked, ko) for asked in asked_ko]
                groups["news_cross"] += [(asked, ko) for asked in asked_en]
                groups["news_cross"] += [(question.ko, en), (question.en, en)]
            groups["news_same"] += [(a, b) for a in asked_ko for b in asked_en] + [
                (question.ko, other) for other in asked_ko[1:]
            ]
            groups["news_same"] += list(itertools.pairwise(asked_ko))
            groups["news_same"] += [(question.en, other) for other in asked_en[1:]]
            groups["news_passage"] += [(asked, korean) for asked in (*asked_ko[:3], *asked_en[:2])]
    return groups


def lexicon_groups(entries: Sequence[Entry]) -> dict[str, list[Pair]]:
    """Thesaurus: Korean to English, and Korean synonyms among themselves."""
    translations: list[Pair] = []
    synonyms: list[Pair] = []
    for entry in entries:
        translations += [(entry.word, english) for english in entry.english]
        translations += [(other, entry.english[0]) for other in entry.synonyms if entry.english]
        synonyms += [(entry.word, other) for other in entry.synonyms]
        if len(entry.synonyms) > 2:
            following = (*entry.synonyms[1:], entry.synonyms[0])
            synonyms += list(zip(entry.synonyms, following, strict=True))
    return {"thesaurus_english": translations, "thesaurus_synonym": synonyms}


def is_dev(text: str, hold: bool) -> bool:
    """Whether what goes with this text is held out."""
    return hold and sources.held_out(text, ONE_IN)


def public_groups(data: Path, news: Path, rng: random.Random, hold: bool) -> dict[str, list[Pair]]:
    """Pairs from the public sources, less what is held out."""
    adobe = [pair for pair in sources.parallel(data, "adobe") if len(pair[0]) >= 6]
    rng.shuffle(adobe)
    general = [
        pair
        for name in GENERAL
        for pair in sources.parallel(data, name)
        if name not in HELD_OUT_FROM or not is_dev(pair[1], hold)
    ]
    general += sources.written_pairs(news)
    pairs = data / "pairs"
    dictionary = [
        (row["ko"].strip(), row["en"], row.get("gloss") or "")
        for row in sources.rows(pairs / "dictionary.jsonl.gz")
    ]
    boolq = [
        (row["question"], row["passage"])
        for row in sources.rows(pairs / "boolq_ko.jsonl.gz")
        if not is_dev(row["passage"], hold)
    ]
    clusters = [
        row["cluster"]
        for row in sources.rows(pairs / "parakqc_ko.jsonl.gz")
        if not is_dev(row["cluster"][0], hold)
    ]
    wordnet = [(row["a"], row["b"]) for row in sources.rows(pairs / "wordnet_en.jsonl.gz")]
    groups = {
        "adobe": adobe[:ADOBE],
        "general": general,
        "dictionary": [(ko, en) for ko, en, _ in dictionary],
        "gloss": [
            (ko, f"{en} {gloss}" if rng.random() < 0.5 else gloss)
            for ko, en, gloss in dictionary
            if len(gloss) > 5
        ],
        "places": sources.places(),
        "similar": [
            pair
            for row in sources.similar(news)
            for pair in (
                (row["ko"], row["en"]),
                *((row["ko"], other) for other in row["same"]),
                *itertools.pairwise(row["same"]),
            )
        ],
        "wordnet": wordnet,
        "questions": [
            (one, other)
            for cluster in clusters
            for one, other in zip(cluster, (*cluster[1:], cluster[0]), strict=False)
        ],
        "boolq": [(question, passage[:PASSAGE]) for question, passage in boolq],
        "cloze_boolq": [
            pair
            for passage in dict.fromkeys(passage for _, passage in boolq)
            for pair in inverse_cloze([("p", passage)], rng)
        ],
        "subset_en": [(text, text) for _, text in wordnet if len(text) > 50][:30_000],
        "subset_ko": [],
    }
    for name, found in sources.documents(data).items():
        section = [pair for blocks in found for pair in headings(blocks, rng)]
        cloze = [pair for blocks in found for pair in inverse_cloze(blocks, rng)]
        rng.shuffle(section)
        rng.shuffle(cloze)
        groups[f"heading_{name}"] = section[:PER_SOURCE]
        groups[f"cloze_{name}"] = cloze[:PER_SOURCE]
        if name.startswith("ko_boddari"):
            groups["subset_ko"] += [
                (text[:700], text[:700]) for blocks in found for _, text in blocks if len(text) > 80
            ]
    return groups


def lessons(data: Path, hold: bool) -> dict[str, list[str]]:
    """Single sentences to be taught by the teachers: general Korean, general English."""
    korean: list[str] = []
    for name, found in sources.documents(data).items():
        if name.startswith(("ko_boddari", "ko_osguide")):
            korean += [part for blocks in found for _, text in blocks for part in sentences(text)]
    for row in sources.rows(data / "pairs" / "boolq_ko.jsonl.gz"):
        if not is_dev(row["passage"], hold):
            korean += [row["question"], *sentences(row["passage"])]
    for row in sources.rows(data / "pairs" / "parakqc_ko.jsonl.gz"):
        if not is_dev(row["cluster"][0], hold):
            korean += row["cluster"]
    return {"ko": list(dict.fromkeys(korean))}


def dev_pairs(data: Path) -> list[Pair]:
    """Held-out parallel sentences, one translation of each English sentence."""
    found: dict[str, str] = {}
    for name in HELD_OUT_FROM:
        for ko, en in sources.parallel(data, name):
            if is_dev(en, True) and len(en) > 25:
                found.setdefault(en, ko)
    return [(ko, en) for en, ko in found.items()]


def dev_rows(data: Path) -> dict[str, list[Any]]:
    """All that is held out beside articles: WORK/dev-NAME.jsonl."""
    pairs = data / "pairs"
    boolq = [(row["question"], row["passage"]) for row in sources.rows(pairs / "boolq_ko.jsonl.gz")]
    clusters = [row["cluster"] for row in sources.rows(pairs / "parakqc_ko.jsonl.gz")]
    return {
        "pairs": dev_pairs(data),
        "boolq": [(asked, passage[:PASSAGE]) for asked, passage in boolq if is_dev(passage, True)],
        "clusters": [cluster for cluster in clusters if is_dev(cluster[0], True)],
    }


def prepare(data: Path, work: Path, hold: bool, seed: int, news: Path = NEWS) -> None:
    """Writes groups/, lessons/, graded.jsonl and dev-*.jsonl; the last are empty where nothing is to be held out."""
    rng = random.Random(seed)
    articles, dev = sources.articles(news, hold)
    groups = public_groups(data, news, rng, hold) | news_groups(articles)
    groups |= lexicon_groups(sources.thesaurus(news))
    for old in (work / "groups").glob("*.jsonl"):
        old.unlink()
    for name, pairs in groups.items():
        clean = [(a.strip(), b.strip()) for a, b in pairs]
        kept = [pair for pair in clean if pair[0] and pair[1]]
        if kept:
            count = write_rows(work / "groups" / f"{name}.jsonl", kept)
            log(f"{name}: {count} pairs, e.g. {kept[0][0][:40]} | {kept[0][1][:40]}")
    log(f"{len(articles)} articles")
    for language, texts in lessons(data, hold).items():
        log(f"{write_rows(work / 'lessons' / f'{language}.jsonl', texts)} single {language} texts")
    pairs = sources.graded(sources.similar(news))
    log(f"{write_rows(work / 'graded.jsonl', pairs)} graded pairs")
    write_rows(work / "dev-news.jsonl", dev)
    counts = {
        name: write_rows(work / f"dev-{name}.jsonl", rows if hold else [])
        for name, rows in dev_rows(data).items()
    }
    log(f"dev: {len(dev)} articles, {counts}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="pairs/ and documents/")
    parser.add_argument("--news", type=Path, default=NEWS, help="what was written for this project")
    parser.add_argument("--work", type=Path, required=True, help="where results go")
    parser.add_argument("--all", action="store_true", help="hold nothing out: train on everything")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    prepare(options.data, options.work, not options.all, options.seed, options.news)


if __name__ == "__main__":
    main()
