"""Tunes the teacher on the pairs of WORK: minutes on an accelerator, most of a day on two cores.

usage: python -m training.tune --work WORK --model intfloat/multilingual-e5-small OUT [--steps 850]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from training.e5 import Encoder
from training.groups import read_groups
from training.sources import log
from training.train import SHARE, contrastive, duplicates
from training.vectors import Ints

SCALE = 40.0
"""Cosines are multiplied by it before the softmax."""
BATCH = 1024
PIECES = 60_000
"""At most so many pieces a batch and side."""
WORDS = ("dictionary", "gloss", "wordnet", "thesaurus_english", "thesaurus_synonym")
"""Groups of single words, drawn half as often as the student draws them."""


def tune(work: Path, model: str, out: Path, steps: int, rate: float, seed: int) -> None:
    """InfoNCE over batches of one group, duplicates masked; AdamW, linear decay."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    teacher = Encoder(model)
    groups = {name: pairs for name, pairs in read_groups(work).items() if name in SHARE}
    groups = {n: p for n, p in groups.items() if len(p) > 1 and not n.startswith("subset")}
    texts = sorted({text for pairs in groups.values() for pair in pairs for text in pair})
    number = {text: place for place, text in enumerate(texts)}
    rows = teacher.rows(texts)
    lengths = np.diff(rows.starts)
    pairs = {n: np.array([[number[a], number[b]] for a, b in p]) for n, p in groups.items()}
    names = list(pairs)
    share = np.array([SHARE[name] * (0.5 if name in WORDS else 1.0) for name in names])
    log(f"{len(texts)} texts on {teacher.device}")
    optimiser = torch.optim.AdamW(teacher.model.parameters(), lr=rate, betas=(0.9, 0.98))
    begun = time.monotonic()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / (0.08 * steps)) * max(0.02, 1 - step / steps)
        teacher.model.train()
        found = pairs[names[rng.choice(len(names), p=share / share.sum())]]
        mean = float(lengths[found[:200]].mean())
        size = int(min(BATCH, PIECES / mean, max(64, len(found) // 2), len(found)))
        chosen = found[rng.choice(len(found), size, replace=False)]
        left: Ints = chosen[:, 0]
        right: Ints = chosen[:, 1]
        x, y = teacher.forward(rows.take(left)), teacher.forward(rows.take(right))
        loss = contrastive(SCALE * x @ y.T, duplicates(left, right))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(teacher.model.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 50 == 0:
            log(f"step {step + 1}, {time.monotonic() - begun:.0f} s: {float(loss.detach()):.2f}")
    teacher.model.save_pretrained(out)
    teacher.tokenizer.save_pretrained(out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="intfloat/multilingual-e5-small")
    parser.add_argument("--steps", type=int, default=850)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tune(options.work, options.model, options.out, options.steps, options.rate, options.seed)


if __name__ == "__main__":
    main()
