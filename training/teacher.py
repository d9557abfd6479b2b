"""Encodes texts with a teacher: CACHE/NAME.jsonl (texts) and CACHE/NAME.f16 (a vector for each).

usage: python -m training.teacher --work WORK --cache CACHE --teacher e5 --model MODEL
       python -m training.teacher --work WORK --cache CACHE --teacher minilm --model MODEL

e5      intfloat/multilingual-e5-small (MIT), a folder of it, or what training.tune made of it
minilm  sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0): English texts alone

Interrupted, it goes on where it stopped; a cache may serve several work folders, but one model a name.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
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


def is_korean(text: str) -> bool:
    """Whether a text has any Hangul."""
    return any("가" <= letter <= "힣" for letter in text)


def encoder(
    name: str, model: str, bfloat16: bool = False
) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """A teacher as a function of texts."""
    if name == "e5":
        from training.e5 import Encoder

        return Encoder(model, bfloat16).encode
    from sentence_transformers import SentenceTransformer

    minilm = SentenceTransformer(model)
    minilm.max_seq_length = 96
    if bfloat16:
        minilm.bfloat16()
    return lambda batch: (
        minilm.encode(list(batch), batch_size=64, convert_to_tensor=True).float().cpu().numpy()
    )


def load(cache: Path, name: str) -> tuple[dict[str, int], NDArray[np.float16]]:
    """Row of each text, and the vectors."""
    known = cache / f"{name}.jsonl"
    if not known.exists():
        return {}, np.zeros((0, 1), np.float16)
    index = {text: row for row, text in enumerate(read_rows(known))}
    return index, np.fromfile(cache / f"{name}.f16", np.float16).reshape(len(index), -1)


def encode(
    work: Path, cache: Path, name: str, model: str, seconds: float, bfloat16: bool = False
) -> None:
    """Encodes what the cache lacks, for at most so many seconds."""
    cache.mkdir(parents=True, exist_ok=True)
    known = load(cache, name)[0]
    fit = (text for text in texts(work) if name == "e5" or not is_korean(text))
    wanted = [text for text in fit if text not in known]
    log(f"{len(known)} texts known, {len(wanted)} to encode")
    run = encoder(name, model, bfloat16)
    begun = time.monotonic()
    for begin in range(0, len(wanted), CHUNK):
        batch = wanted[begin : begin + CHUNK]
        with (cache / f"{name}.f16").open("ab") as out:
            out.write(run(batch).astype(np.float16).tobytes())
        with (cache / f"{name}.jsonl").open("a", encoding="utf-8") as lines:
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
    parser.add_argument("--teacher", choices=("e5", "minilm"), required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this long")
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor has it")
    options = parser.parse_args()
    encode(
        options.work,
        options.cache,
        options.teacher,
        options.model,
        options.seconds,
        options.bfloat16,
    )


if __name__ == "__main__":
    main()
