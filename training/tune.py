"""Tunes the teacher on the pairs of WORK: minutes on an accelerator, half an hour on two cores for less.

usage: python -m training.tune --work WORK OUT [--model intfloat/multilingual-e5-small] [--steps 850]
       python -m training.tune --work WORK OUT --seconds 2160 --frozen 6 --batch 256 --rate 1.5e-4 --bfloat16

The second is for two cores: the vectors of the pieces and the lower half of the layers stay as they are.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.e5 import Encoder
from training.groups import read_groups
from training.sources import Pair, log
from training.train import contrastive, duplicates
from training.vectors import Ints

SHARE = {
    "general": 4.0,
    "similar": 1.5,
    "dictionary": 0.5,
    "places": 0.4,
    "gloss": 0.2,
    "wordnet": 0.7,
    "questions": 0.4,
    "boolq": 0.8,
    "news_parallel": 3.0,
    "news_answer": 5.0,
    "news_cross": 6.0,
    "news_same": 2.4,
    "news_title": 0.6,
    "thesaurus_english": 0.8,
    "thesaurus_synonym": 0.8,
}
"""How often a group is drawn, relative to the others: sentences and questions above all."""
CAP = 40_000
"""At most so many pairs of a group are read."""
SCALE = 40.0
"""Cosines are multiplied by it before the softmax."""
LONG, SHORT = 45, 14
"""Pieces of a text: with more a batch is halved, with fewer doubled."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How to tune: until `steps` or `seconds`, whichever is first; the rate falls with them."""

    steps: int = 850
    seconds: float = 1e9
    batch: int = 1024
    rate: float = 1e-4
    frozen: int = 0
    """Lower layers left as they are, with the vectors of the pieces; dropout goes too."""
    seed: int = 0


def freeze(model: torch.nn.Module, layers: int) -> None:
    """Leaves the vectors of the pieces and the lower `layers` as they are, and drops dropout."""
    for part in (model.embeddings, *model.encoder.layer[:layers]):
        for weight in part.parameters():
            weight.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def some(pairs: list[Pair], rng: np.random.Generator) -> list[Pair]:
    """At most CAP of them."""
    chosen = rng.choice(len(pairs), min(CAP, len(pairs)), replace=False)
    return [pairs[index] for index in np.sort(chosen)]


def tune(work: Path, teacher: Encoder, out: Path, plan: Tuning) -> None:
    """InfoNCE over batches of one group, duplicates masked; AdamW, linear decay."""
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    groups = {n: some(p, rng) for n, p in read_groups(work).items() if n in SHARE and len(p) > 1}
    texts = sorted({text for pairs in groups.values() for pair in pairs for text in pair})
    number = {text: place for place, text in enumerate(texts)}
    rows = teacher.rows(texts)
    lengths = np.diff(rows.starts)
    pairs = {n: np.array([[number[a], number[b]] for a, b in p]) for n, p in groups.items()}
    names = list(pairs)
    share = np.array([SHARE[name] for name in names])
    log(f"{len(texts)} texts on {teacher.device}")
    teacher.model.train()
    if plan.frozen:
        freeze(teacher.model, plan.frozen)
    tuned = [weight for weight in teacher.model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(tuned, lr=plan.rate, betas=(0.9, 0.98))
    begun = time.monotonic()
    step, done = 0, 0.0
    while done < 1:
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * min(1.0, (step + 1) / 20) * max(0.02, 1 - done)
        found = pairs[names[rng.choice(len(names), p=share / share.sum())]]
        mean = float(lengths[found[:200]].mean())
        wanted = plan.batch // 2 if mean > LONG else plan.batch * 2 if mean < SHORT else plan.batch
        chosen = found[rng.choice(len(found), min(wanted, len(found)), replace=False)]
        left: Ints = chosen[:, 0]
        right: Ints = chosen[:, 1]
        both = teacher.forward(rows.take(np.concatenate([left, right])))
        x, y = both[: len(chosen)], both[len(chosen) :]
        loss = contrastive(SCALE * x @ y.T, duplicates(left, right))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(tuned, 1.0)
        optimiser.step()
        step += 1
        spent = time.monotonic() - begun
        done = max(step / plan.steps, spent / plan.seconds)
        if step % 10 == 0:
            log(f"step {step}, {spent:.0f} s: {float(loss.detach()):.2f}")
    teacher.model.save_pretrained(out)
    teacher.tokenizer.save_pretrained(out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="intfloat/multilingual-e5-small")
    parser.add_argument("--steps", type=int, help="850, or as many as the seconds allow")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--frozen", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor has it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    steps = options.steps or (850 if options.seconds > 1e8 else 1_000_000)
    plan = Tuning(steps, options.seconds, options.batch, options.rate, options.frozen, options.seed)
    tune(options.work, Encoder(options.model, options.bfloat16), options.out, plan)


if __name__ == "__main__":
    main()
