"""Encodes texts with the teacher: CACHE/texts.jsonl and CACHE/vectors.f16, a row for each text.

usage: python -m training.teacher --work WORK --cache CACHE --model MODEL

MODEL is intfloat/multilingual-e5-small (MIT), a folder of it, or what training.tune made of it.
Interrupted, it goes on where it stopped; a cache may serve several work folders, but one model only.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from training.groups import read_groups, read_rows
from training.sources import log

CHUNK = 4096
"""Texts encoded between two writes: a minute of work at most is lost."""
CAPS = {
    "general": 100_000,
    "news_parallel": 100_000,
    "news_same": 100_000,
    "similar": 100_000,
    "boolq": 100_000,
    "questions": 100_000,
    "dictionary": 100_000,
    "places": 100_000,
    "thesaurus_english": 200_000,
    "wordnet": 12_000,
}
"""Pairs taken of each group, in this order: what helps most first."""


def pieces(tokenizer: Tokenizer) -> list[str]:
    """The pieces of a vocabulary in order, without the mark of a word's beginning."""
    size = tokenizer.get_vocab_size()
    return [(tokenizer.id_to_token(index) or "").lstrip("▁") for index in range(size)]


def texts(work: Path) -> list[str]:
    """Distinct texts to encode: pieces of the vocabulary, groups, single sentences."""
    found = pieces(Tokenizer.from_file(str(work / "tokenizer.json")))[2:]
    groups = read_groups(work)
    for name, cap in CAPS.items():
        pairs = groups.get(name, [])
        if len(pairs) > cap:
            pairs = random.Random(0).sample(pairs, cap)
        found += [text for pair in pairs for text in pair]
    for path in sorted((work / "lessons").glob("*.jsonl")):
        found += read_rows(path)
    return [text for text in dict.fromkeys(found) if text]


def load(cache: Path) -> tuple[dict[str, int], NDArray[np.float16]]:
    """Row of each text, and the vectors."""
    known = cache / "texts.jsonl"
    if not known.exists():
        return {}, np.zeros((0, 1), np.float16)
    index = {text: row for row, text in enumerate(read_rows(known))}
    return index, np.fromfile(cache / "vectors.f16", np.float16).reshape(len(index), -1)


def encode(work: Path, cache: Path, model: str, seconds: float) -> None:
    """Encodes what the cache lacks, for at most so many seconds."""
    from training.e5 import Encoder

    cache.mkdir(parents=True, exist_ok=True)
    known = load(cache)[0]
    wanted = [text for text in texts(work) if text not in known]
    log(f"{len(known)} texts known, {len(wanted)} to encode")
    teacher = Encoder(model)
    begun = time.monotonic()
    for begin in range(0, len(wanted), CHUNK):
        batch = wanted[begin : begin + CHUNK]
        with (cache / "vectors.f16").open("ab") as out:
            out.write(teacher.encode(batch).astype(np.float16).tobytes())
        with (cache / "texts.jsonl").open("a", encoding="utf-8") as lines:
            lines.writelines(json.dumps(text, ensure_ascii=False) + "\n" for text in batch)
        spent = time.monotonic() - begun
        log(f"{begin + len(batch)} of {len(wanted)}, {spent:.0f} s")
        if spent > seconds:
            break


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="intfloat/multilingual-e5-small")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this long")
    options = parser.parse_args()
    encode(options.work, options.cache, options.model, options.seconds)


if __name__ == "__main__":
    main()
