"""Trains the tokenizer: WORK/tokenizer.json, a Unigram model of Korean morphemes and English words.

usage: python -m training.tokenizer --work WORK [--size 48000]

Korean text is cut into morphemes by Kiwi for training only; the tokenizer then splits raw text
into the pieces it knows, so nothing but this file is needed at run time. Words of Latin letters
carry a mark at their start, Hangul carries none: a Korean noun must be the same piece at the start
of a word and inside a compound.
"""

from __future__ import annotations

import argparse
import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from kiwipiepy import Kiwi
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from training.groups import read_groups
from training.sources import log

PIECES = r"[가-힣ㄱ-ㅎㅏ-ㅣ]+|▁?[a-z]+|[0-9]+|[一-龥]|[^가-힣ㄱ-ㅎㅏ-ㅣa-z0-9▁一-龥]+"
"""Runs of one script; every ideograph stands alone."""
CAP = {
    "adobe": 15_000,
    "heading_ko_adobe": 6_000,
    "cloze_ko_adobe": 6_000,
    "heading_ko_msps": 2_000,
}
CAP |= {"cloze_ko_msps": 2_000, "heading_en_adobe": 3_000, "cloze_en_adobe": 3_000}
"""Texts taken from narrow sources, so that product terms do not fill the vocabulary."""
REPEAT = {"dictionary": 2, "thesaurus_english": 2}
"""Words of the lexicons count more than once: each stands there only a few times."""


def blank() -> Tokenizer:
    """The untrained tokenizer: NFKC, lower case, the mark, runs of one script."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"(?<![a-z])(?=[a-z])"), "▁"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(PIECES), "isolated")]
    )
    return tokenizer


def texts(work: Path, seed: int) -> list[str]:
    """Distinct texts of all groups, narrow sources capped."""
    rng = random.Random(seed)
    found: dict[str, int] = {}
    for name, pairs in read_groups(work).items():
        if len(pairs) > CAP.get(name, len(pairs)):
            pairs = rng.sample(pairs, CAP[name])
        for pair in pairs:
            for text in pair:
                found[text] = max(found.get(text, 0), REPEAT.get(name, 1))
    return [text for text, times in found.items() for _ in range(times)]


def morphemes(found: list[str]) -> Iterator[str]:
    """Korean texts with spaces between their morphemes, other texts as they are."""
    korean = [text for text in found if any("가" <= letter <= "힣" for letter in text)]
    log(f"cutting {len(korean)} Korean texts of {len(found)} into morphemes")
    yield from (text for text in found if not any("가" <= letter <= "힣" for letter in text))
    for tokens in Kiwi(num_workers=2).tokenize(korean):
        yield unicodedata.normalize("NFC", " ".join(token.form for token in tokens))


def train(work: Path, size: int, seed: int) -> None:
    """Trains and saves the tokenizer."""
    tokenizer = blank()
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=["[PAD]", "[UNK]"],
        unk_token="[UNK]",
        max_piece_length=16,
        shrinking_factor=0.75,
        show_progress=False,
    )
    tokenizer.train_from_iterator(morphemes(texts(work, seed)), trainer)
    tokenizer.save(str(work / "tokenizer.json"))
    sample = tokenizer.encode("산업정책포럼에 몇 명이 참석했나? How many people attended?").tokens
    log(f"{tokenizer.get_vocab_size()} pieces: {' '.join(sample)}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=45_500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train(options.work, options.size, options.seed)


if __name__ == "__main__":
    main()
