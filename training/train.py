"""Trains the matrix: WORK/runs/NAME.npy.

usage: python -m training.train --work WORK --cache CACHE --run NAME [--before MODEL] [--steps 600]

With --before the run goes on from an exported model of the same tokenizer, which is its third teacher as well.
Interrupted, the same command goes on from WORK/runs/NAME.checkpoint.pt.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from tokenizers import Tokenizer

from training.evaluate import on_dev
from training.export import read_model
from training.groups import read_groups, read_rows
from training.sources import log
from training.teacher import is_korean, load, pieces
from training.vectors import Floats, Ints, Rows, embed, rotation, unit

SHARE = {
    "adobe": 3.0,
    "general": 4.0,
    "similar": 1.5,
    "dictionary": 2.5,
    "places": 0.8,
    "gloss": 1.0,
    "wordnet": 2.0,
    "questions": 0.5,
    "boolq": 1.0,
    "cloze_boolq": 1.5,
    "heading_ko_adobe": 0.4,
    "cloze_ko_adobe": 0.4,
    "cloze_ko_osguide": 0.1,
    "heading_ko_msps": 0.2,
    "cloze_ko_msps": 0.2,
    "heading_ko_boddari_wikinews": 0.3,
    "cloze_ko_boddari_wikinews": 1.0,
    "heading_ko_boddari_unesco_report": 0.3,
    "cloze_ko_boddari_unesco_report": 1.0,
    "heading_ko_boddari_book_review01": 0.2,
    "cloze_ko_boddari_book_review01": 0.6,
    "cloze_ko_boddari_fairytale01": 0.4,
    "heading_en_adobe": 0.3,
    "cloze_en_adobe": 0.3,
    "subset_ko": 2.0,
    "subset_en": 0.7,
    "news_parallel": 4.0,
    "news_answer": 5.0,
    "news_cross": 6.0,
    "news_same": 2.4,
    "news_passage": 2.4,
    "news_title": 1.0,
    "thesaurus_english": 2.4,
    "thesaurus_synonym": 2.0,
}
"""How often a group is drawn, relative to the others."""
TAUGHT = {
    4.0: ("general", "news_parallel", "news_same", "news_cross", "similar"),
    2.0: ("dictionary", "thesaurus_english", "places"),
    3.0: ("boolq", "questions", "wordnet"),
}
"""Groups whose texts are distilled, by how often; single sentences go with the last."""
TRANSLATED = (
    "general", "news_parallel", "dictionary", "thesaurus_english", "places", "similar", "news_same",
)  # fmt: skip
"""Groups whose pairs are translations, or some of them: the first that knows a text counts."""
SENTENCES = ("general", "news_parallel", "news_cross", "boolq", "similar")
"""Groups whose texts span the teacher's space."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every choice of a run; training/README.md has the four runs of the model that ships."""

    steps: int = 600
    dimensions: int = 256
    rate: float = 0.05
    scale: float = 20.0
    batch: int = 2048
    pieces: int = 120_000
    """At most so many pieces a batch, so that batches of passages are smaller."""
    sif: float = 1e-3
    """Start: a piece of probability p is scaled by sif / (sif + p) (Arora et al. 2017)."""
    english: float = 1.0
    """Weight of "minilm" beside "e5" in the teacher's vectors."""
    third: float = 3.0
    """Weight of the model before beside "e5", where the run goes on from one."""
    size: float = 3.0
    """Root mean square of the numbers of the model before as a start: Adam's steps do not depend on it."""
    distil: float = 2.0
    distil_batch: int = 1024
    soft: float = 1.0
    """Weight of the teacher's opinion on who answers whom in a batch of pairs."""
    soft_scale: float = 40.0
    """The teacher's cosines are multiplied by it before the softmax."""
    graded: float = 0.3
    """Weight of the order of graded pairs of similar sentences."""
    graded_batch: int = 1024
    drop: float = 0.35
    """Share of texts of which words are dropped."""
    seed: int = 0
    threads: int = 1
    save_every: int = 250
    """Steps between two checkpoints."""


@dataclass(frozen=True, slots=True)
class Group:
    """Tokenised pairs, with a number for each distinct text to recognise duplicates by."""

    left: Rows
    right: Rows
    left_text: Ints
    right_text: Ints


@dataclass(frozen=True, slots=True)
class Lesson:
    """Texts with the vectors that the teacher gives them."""

    rows: Rows
    targets: Floats


def numbered(groups: dict[str, list[tuple[str, str]]], tokenizer: Tokenizer) -> dict[str, Group]:
    """Tokenises all groups."""
    numbers: dict[str, int] = {}
    found: dict[str, Group] = {}
    for name, pairs in groups.items():
        sides = []
        for side in (0, 1):
            texts = [pair[side] for pair in pairs]
            ids = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
            sides.append((Rows.of(tokenizer, texts), ids))
        found[name] = Group(sides[0][0], sides[1][0], sides[0][1], sides[1][1])
    return found


class Teacher:
    """Teachers side by side, reduced by PCA to `recipe.dimensions`: unit vectors of all texts of "e5".

    before: embeds texts as the model before does, the third teacher where there is one.
    "minilm" knows English alone. A Korean text takes its vector of the translation; what has none,
    a linear map of the vector of "e5", fitted (ridge regression) where both are known.
    """

    def __init__(
        self,
        cache: Path,
        groups: dict[str, list[tuple[str, str]]],
        core: Sequence[str],
        recipe: Recipe,
        before: Callable[[Sequence[str]], Floats] | None = None,
    ) -> None:
        self.index, own = load(cache, "e5")
        english, vectors = load(cache, "minilm")
        if not self.index or not english:
            raise ValueError(f"{cache} lacks a teacher: run training.teacher for e5 and for minilm")
        place = np.full(len(self.index), -1)
        for text, row in self.index.items():
            if not is_korean(text):
                place[row] = english.get(text, -1)
        for name in TRANSLATED:
            for ko, en in groups.get(name, ()):
                row = self.index.get(ko, -1)
                if row >= 0 and is_korean(ko) and not is_korean(en) and place[row] < 0:
                    place[row] = english.get(en, -1)
        known = place >= 0
        first = own.astype(np.float32)
        first -= first[known].mean(0)
        second = np.empty((len(first), vectors.shape[1]), np.float32)
        second[known] = unit(vectors[place[known]].astype(np.float32))
        padded = np.hstack([first, np.ones((len(first), 1), np.float32)])
        ridge = padded[known].T @ padded[known] + 3.0 * np.eye(padded.shape[1], dtype=np.float32)
        fitted = np.linalg.solve(ridge, padded[known].T @ second[known])
        second[~known] = unit(padded[~known] @ fitted)
        second -= second.mean(0)
        parts = [(first, 1.0), (second, recipe.english)]
        if before:
            third = before(list(self.index))
            parts.append((third - third.mean(0), recipe.third))
        both = np.hstack([part * (w / np.sqrt((part**2).sum(1).mean())) for part, w in parts])
        rows = [self.index[text] for text in core if text in self.index]
        both -= both[rows].mean(0)
        some = both[rows][:: max(1, len(rows) // 40_000)]
        sizes, axes = np.linalg.eigh(some.T @ some)
        self.vectors = unit(both @ axes[:, ::-1][:, : recipe.dimensions])
        kept = float(sizes[-recipe.dimensions :].sum() / sizes.sum())
        log(f"teachers: {len(first)} texts, {known.mean():.2f} known to both, {kept:.2f} kept")

    def rows(self, texts: Sequence[str]) -> Ints:
        """Row of each text, -1 where it is not known."""
        return np.array([self.index.get(text, -1) for text in texts], np.int64)


def lessons(
    groups: dict[str, list[tuple[str, str]]],
    single: list[str],
    teacher: Teacher,
    tokenizer: Tokenizer,
) -> list[tuple[float, Lesson]]:
    """What is distilled: sentences, words, single sentences."""
    found: list[tuple[float, Lesson]] = []
    for share, names in TAUGHT.items():
        texts = {text for name in names for pair in groups.get(name, ()) for text in pair}
        wanted = sorted((texts | set(single) if "boolq" in names else texts) & set(teacher.index))
        if wanted:
            targets = teacher.vectors[teacher.rows(wanted)]
            found.append((share, Lesson(Rows.of(tokenizer, wanted), targets)))
            log(f"lesson of {len(wanted)} texts, share {share}")
    return found


def start(tokenizer: Tokenizer, teacher: Teacher, counts: Ints, recipe: Recipe) -> Floats:
    """First vectors: what the teacher makes of each piece alone, scaled down when frequent.

    The same for every seed: a mean of runs is good because they share a start.
    """
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((tokenizer.get_vocab_size(), recipe.dimensions)) * 0.1
    rows = teacher.rows(pieces(tokenizer))
    matrix[rows >= 0] += teacher.vectors[rows[rows >= 0]] * np.sqrt(recipe.dimensions)
    scale = recipe.sif / (recipe.sif + counts / counts.sum())
    scale[:2] = 0.01
    log(f"{(rows >= 0).sum()} of {len(rows)} pieces start from the teacher")
    found: Floats = (matrix * scale[:, None]).astype(np.float32)
    return found


def model_before(folder: Path, tokenizer: Tokenizer) -> Floats:
    """Matrix of an exported model; ValueError where its tokenizer is another."""
    own, matrix = read_model(folder)
    if own.get_vocab() != tokenizer.get_vocab():
        raise ValueError(f"{folder} has another tokenizer: copy its tokenizer.json to WORK")
    return matrix


def turned(matrix: Floats, tokenizer: Tokenizer, teacher: Teacher, recipe: Recipe) -> Floats:
    """The model before as first vectors, turned to the teacher, which changes no cosine."""
    texts = list(teacher.index)
    some = texts[:: max(1, len(texts) // 60_000)]
    mine, wanted = embed(matrix, tokenizer, some), teacher.vectors[teacher.rows(some)]
    found: Floats = matrix @ rotation(mine, wanted)
    return found * np.float32(recipe.size / np.sqrt((found**2).mean()))


def duplicates(left: Ints, right: Ints) -> torch.Tensor:
    """Which pairs of a batch, given by the numbers of their texts, are no negatives of each other."""
    same = (left[:, None] == left) | (right[:, None] == right) | (left[:, None] == right)
    np.fill_diagonal(same, False)
    return torch.from_numpy(same)


def contrastive(scores: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018, arXiv:1807.03748): the diagonal is right."""
    masked = scores.masked_fill(same.to(scores.device), -1e4)
    wanted = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(masked, wanted) + F.cross_entropy(masked.T, wanted)) / 2


def ordered(scores: torch.Tensor, grades: torch.Tensor) -> torch.Tensor:
    """CoSENT (Su 2022, kexue.fm/archives/8847), its sum a mean: no pair above one of a higher grade."""
    wrong = scores[:, None] - scores[None]
    wrong = wrong[grades[:, None] < grades[None]]
    return F.softplus(torch.logsumexp(wrong, 0) - np.log(max(1, len(wrong))))


class Trainer:
    """A run: data, matrix, optimiser, and its checkpoint."""

    def __init__(
        self, work: Path, cache: Path, run: str, recipe: Recipe, before: Path | None = None
    ) -> None:
        self.recipe = recipe
        torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self.rng = np.random.default_rng(recipe.seed)
        self.out = work / "runs" / f"{run}.npy"
        self.checkpoint = work / "runs" / f"{run}.checkpoint.pt"
        self.out.parent.mkdir(parents=True, exist_ok=True)
        tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
        texts = read_groups(work)
        self.groups = numbered(texts, tokenizer)
        self.names = [n for n in SHARE if n in self.groups and len(self.groups[n].left) > 65]
        share = np.array([SHARE[name] for name in self.names])
        self.share = share / share.sum()
        size = tokenizer.get_vocab_size()
        counts = sum(
            np.bincount(rows.flat, minlength=size)
            for group in self.groups.values()
            for rows in (group.left, group.right)
        )
        core = [t for name in SENTENCES for pair in texts.get(name, ()) for t in pair]
        single = read_rows(work / "lessons" / "ko.jsonl")
        if before:
            matrix = model_before(before, tokenizer)
            known = partial(embed, matrix, tokenizer)
            teacher = Teacher(cache, texts, core + single, recipe, known)
            first = turned(matrix, tokenizer, teacher, recipe)
        else:
            teacher = Teacher(cache, texts, core + single, recipe)
            first = start(tokenizer, teacher, np.asarray(counts), recipe)
        rows = read_rows(work / "graded.jsonl")
        self.graded = [Rows.of(tokenizer, [row[side] for row in rows]) for side in (0, 1)]
        self.grades = np.array([row[2] for row in rows], np.float32)
        self.lessons = lessons(texts, single, teacher, tokenizer)
        self.known = {
            name: np.stack([teacher.rows([pair[side] for pair in texts[name]]) for side in (0, 1)])
            for name in self.names
        }
        self.teacher = torch.from_numpy(teacher.vectors)
        share = np.array([weight for weight, _ in self.lessons])
        self.lesson_share = share / share.sum()
        self.matrix = torch.nn.Parameter(torch.from_numpy(first))
        self.optimiser = torch.optim.Adam(
            [self.matrix], lr=recipe.rate, betas=(0.9, 0.99), fused=True
        )
        self.step = 0
        if self.checkpoint.exists():
            self.resume()

    def resume(self) -> None:
        """Takes up the checkpoint."""
        state = torch.load(self.checkpoint, weights_only=True)
        self.matrix.data.copy_(state["matrix"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.rng.bit_generator.state = json.loads(state["random"])
        log(f"going on at step {self.step}")

    def save(self) -> None:
        """Writes the checkpoint, replacing the old one only when whole."""
        temporary = self.checkpoint.with_suffix(".tmp")
        state = {
            "matrix": self.matrix.data,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "random": json.dumps(self.rng.bit_generator.state),
        }
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def embed(self, rows: Rows) -> torch.Tensor:
        """Mean vectors of texts."""
        flat = torch.from_numpy(rows.flat.astype(np.int64))
        return F.embedding_bag(flat, self.matrix, torch.from_numpy(rows.starts[:-1]), mode="mean")

    def dropped(self, rows: Rows, share: float, low: float = 0.3, high: float = 0.8) -> Rows:
        """Drops pieces of a share of the texts, keeping low to high of them."""
        keep = self.rng.uniform(low, high, len(rows))
        keep = np.where(self.rng.random(len(rows)) < share, keep, 1.0)
        return rows.thin(keep.astype(np.float32), self.rng)

    def widths(self) -> list[tuple[int, float]]:
        """Prefixes of the vector that are trained, with weights (Matryoshka, arXiv:2205.13147)."""
        return [(self.recipe.dimensions, 1.0), (self.recipe.dimensions // 4, 0.5)]

    def pair_loss(self, name: str) -> torch.Tensor:
        """Symmetric InfoNCE over a batch of one group; duplicates are no negatives."""
        group, recipe = self.groups[name], self.recipe
        total = len(group.left)
        length = (len(group.left.flat) + len(group.right.flat)) / total
        size = int(min(recipe.batch, recipe.pieces / length, max(64, total // 2)))
        chosen = self.rng.choice(total, size, replace=False)
        left, right = group.left.take(chosen), group.right.take(chosen)
        if name.startswith("subset"):
            low, high = (0.05, 0.2) if name == "subset_ko" else (0.12, 0.5)
            left = self.dropped(left, 1.0, low, high)
        elif name.startswith(("cloze", "wordnet")):
            left = self.dropped(left, 0.3, 0.4)
        elif name.startswith(("news", "general", "adobe", "similar")):
            left, right = self.dropped(left, recipe.drop), self.dropped(right, recipe.drop)
        x, y = self.embed(left), self.embed(right)
        a, b = group.left_text[chosen], group.right_text[chosen]
        same = duplicates(a, b)
        loss = torch.zeros(())
        for width, weight in self.widths():
            scores = recipe.scale * F.normalize(x[:, :width]) @ F.normalize(y[:, :width]).T
            loss = loss + weight * contrastive(scores, same)
        if recipe.soft and not name.startswith("subset"):
            loss = loss + recipe.soft * self.soft_loss(self.known[name][:, chosen], x, y)
        return loss

    def soft_loss(self, known: Ints, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with the teacher's own softmax over a batch, both ways (Hinton et al. 2015).

        known: rows of the teacher, of shape (2, pairs); pairs with a text that it has not seen are left out.
        """
        seen = np.flatnonzero((known >= 0).all(0))
        if len(seen) < 2:
            return torch.zeros(())
        one, other = (self.teacher[torch.from_numpy(side[seen])] for side in known)
        wished = self.recipe.soft_scale * one @ other.T
        kept = torch.from_numpy(seen)
        scores = self.recipe.scale * F.normalize(x[kept]) @ F.normalize(y[kept]).T
        there = F.cross_entropy(scores, wished.softmax(1))
        return (there + F.cross_entropy(scores.T, wished.T.softmax(1))) / 2

    def graded_loss(self) -> torch.Tensor:
        """How far a batch of graded pairs is out of order."""
        size = min(self.recipe.graded_batch, len(self.grades))
        chosen = self.rng.choice(len(self.grades), size, replace=False)
        x, y = (F.normalize(self.embed(side.take(chosen))) for side in self.graded)
        return ordered(self.recipe.scale * (x * y).sum(1), torch.from_numpy(self.grades[chosen]))

    def distil_loss(self) -> torch.Tensor:
        """Pulls texts to the teacher's vectors, and away from those of other texts."""
        _, lesson = self.lessons[self.rng.choice(len(self.lessons), p=self.lesson_share)]
        size = min(self.recipe.distil_batch, len(lesson.rows))
        chosen = self.rng.choice(len(lesson.rows), size, replace=False)
        targets = torch.from_numpy(lesson.targets[chosen])
        x = F.normalize(self.embed(lesson.rows.take(chosen)))
        scores = self.recipe.scale * x @ targets.T
        near = 1 - (x * targets).sum(1).mean()
        return 0.5 * F.cross_entropy(scores, torch.arange(size)) + 2 * near

    def rate(self) -> float:
        """5 % warm-up, then linear decay."""
        done = self.step / self.recipe.steps
        return self.recipe.rate * min(1.0, done / 0.05 + 0.02) * max(0.01, 1 - done)

    def train(self) -> Floats:
        """Runs to the end."""
        recipe, begun = self.recipe, time.monotonic()
        seen: dict[str, list[float]] = defaultdict(list)
        while self.step < recipe.steps:
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate()
            name = str(self.rng.choice(self.names, p=self.share))
            loss = self.pair_loss(name)
            seen[name].append(float(loss.detach()))
            if recipe.distil and self.step % 2 == 0:
                taught = self.distil_loss() + self.distil_loss()
                seen["distil"].append(float(taught.detach()))
                loss = loss + recipe.distil * taught
            if recipe.graded and self.step % 2 and len(self.grades):
                ranked = self.graded_loss()
                seen["graded"].append(float(ranked.detach()))
                loss = loss + recipe.graded * ranked
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.step += 1
            if self.step % 200 == 0:
                shown = ("general", "news_cross", "dictionary", "subset_ko", "distil", "graded")
                means = " ".join(f"{n} {np.mean(seen[n]):.2f}" for n in shown if n in seen)
                log(f"step {self.step}, {time.monotonic() - begun:.0f} s: {means}")
                seen.clear()
            if self.step % self.recipe.save_every == 0:
                self.save()
        matrix: Floats = self.matrix.data.numpy()
        np.save(self.out, matrix.astype(np.float16))
        self.checkpoint.unlink(missing_ok=True)
        return matrix


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: an option for every field of Recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--before", type=Path, metavar="MODEL", help="exported model to go on from")
    for field in fields(Recipe):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    options = parser.parse_args(arguments)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    trainer = Trainer(options.work, options.cache, options.run, recipe, options.before)
    matrix = trainer.train()
    if not (options.work / "dev-news.jsonl").stat().st_size:
        return
    tokenizer = Tokenizer.from_file(str(options.work / "tokenizer.json"))
    found = on_dev(lambda texts: embed(matrix, tokenizer, texts), options.work)
    log(json.dumps({name: round(float(value), 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
