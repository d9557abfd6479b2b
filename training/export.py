"""Writes a trained matrix as a sentence-transformers folder, and reads one back without it.

usage: python -m training.export --work WORK --run NAME [--run NAME ...] OUT

Of several runs (same tokenizer, other seeds or weights) the mean is written: the runs' errors on pieces that
are seldom seen differ, and what they agree on stays.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from training.vectors import Floats, rotation


def quantised(matrix: Floats) -> tuple[np.ndarray, np.ndarray]:
    """int8 rows and a scale for each."""
    scale = np.maximum(np.abs(matrix).max(1) / 127, 1e-8).astype(np.float16)
    rows = np.round(matrix / scale.astype(np.float32)[:, None]).clip(-127, 127)
    return rows.astype(np.int8), scale


def read_model(folder: Path) -> tuple[Tokenizer, Floats]:
    """Tokenizer and matrix of an exported model."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    matrix = load_file(folder / "model.safetensors")["embedding.weight"].astype(np.float32)
    return tokenizer, matrix


def mean(work: Path, runs: Sequence[str]) -> Floats:
    """The mean of the matrices of runs, each turned to the first and of one size."""
    read = [np.load(work / "runs" / f"{run}.npy").astype(np.float32) for run in runs]
    alike = [matrix / np.sqrt((matrix**2).mean()) for matrix in read]
    found: Floats = np.mean([m @ rotation(m, alike[0]) for m in alike], axis=0)
    return found


def compact(tokenizer: Path) -> None:
    """Rewrites tokenizer.json without indents, scores at 4 decimals: half the size."""
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = [[piece, round(score, 4)] for piece, score in vocabulary]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    tokenizer.write_text(text, encoding="utf-8")


def export(matrix: Floats, tokenizer_file: Path, out: Path) -> None:
    """Saves float16 weights; the folder appears under its name only when whole."""
    from sentence_transformers import SentenceTransformer

    try:
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    except ImportError:  # before 5.4
        from sentence_transformers.models import StaticEmbedding

    matrix = matrix / np.sqrt((matrix**2).sum(1).mean())
    model = SentenceTransformer(
        modules=[
            StaticEmbedding(Tokenizer.from_file(str(tokenizer_file)), embedding_weights=matrix)
        ],
        device="cpu",
        similarity_fn_name="cosine",
    )
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.half()
    model.save(str(temporary))
    compact(temporary / "tokenizer.json")
    if out.exists():
        out.rename(out.with_name(out.name + ".old"))
    temporary.rename(out)
    shutil.rmtree(out.with_name(out.name + ".old"), ignore_errors=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--run", required=True, action="append", help="several: their mean")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    export(mean(options.work, options.run), options.work / "tokenizer.json", options.out)


if __name__ == "__main__":
    main()
