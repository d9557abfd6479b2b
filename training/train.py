"""Trains the matrix: WORK/runs/NAME.npy.

usage: python -m training.train --work WORK --cache CACHE --run NAME [--steps 1500]

Interrupted, the same command goes on from WORK/runs/NAME.checkpoint.pt.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from tokenizers import Tokenizer

from training.evaluate import on_dev
from training.groups import read_groups, read_rows
from training.sources import log
from training.teacher import is_korean, load
from training.vectors import Floats, Ints, Rows, embed, unit

SHARE = {
    "adobe": 3.0,
    "general": 4.0,
    "dictionary": 2.5,
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
PARALLEL = ("general", "news_parallel", "dictionary", "thesaurus_english", "adobe")
"""Groups of (Korean, English): the Korean side is taught the vector of the English one."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every choice of a run; the defaults are the recipe of the proposed model."""

    steps: int = 600
    dimensions: int = 256
    rate: float = 0.05
    scale: float = 20.0
    batch: int = 2048
    pieces: int = 120_000
    """At most so many pieces a batch, so that batches of passages are smaller."""
    sif: float = 1e-3
    """Start: a piece of probability p is scaled by sif / (sif + p) (Arora et al. 2017)."""
    distil: float = 2.0
    distil_batch: int = 1024
    use_weight: float = 1.0
    """Weight of the multilingual teacher beside the English one, in the space they span."""
    article: float = 0.0
    """Share of steps on whole articles, questions against all their sentences."""
    articles: int = 96
    within: float = 1.0
    average: float = 0.0
    """Decay of a running average of the matrix; 0: none."""
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
    """Texts with the vectors that the teachers give them."""

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


class Teachers:
    """One space of `dimensions` for two teachers.

    English texts: the vectors of both side by side, reduced by PCA. Korean texts: the vector of
    their translation, or else what a linear map, fitted on translations, makes of the multilingual
    teacher's vector.
    """

    def __init__(self, cache: Path, pairs: list[tuple[str, str]], recipe: Recipe) -> None:
        self.english, english_vectors = load(cache, "minilm")
        self.both, both_vectors = load(cache, "use")
        self.english_vectors = unit(english_vectors.astype(np.float32))
        self.both_vectors = unit(both_vectors.astype(np.float32))
        self.weight = recipe.use_weight
        known = [
            (ko, en)
            for ko, en in dict.fromkeys(pairs)
            if ko in self.both and en in self.both and en in self.english
        ]
        english = self._joined([en for _, en in known])
        self.mean = english.mean(0)
        some = english[:: max(1, len(english) // 20_000)]
        _, _, axes = np.linalg.svd(some - self.mean, full_matrices=False)
        self.axes = axes[: recipe.dimensions].T
        targets = self.of_english([en for _, en in known])
        korean = self._multilingual([ko for ko, _ in known])
        ridge = korean.T @ korean + 1.0 * np.eye(korean.shape[1], dtype=np.float32)
        self.map = np.linalg.solve(ridge, korean.T @ targets)
        fitted = unit(korean @ self.map)
        cosine = (fitted * targets).sum(1).mean()
        log(f"teachers: {len(known)} pairs, cosine of the fit {cosine:.3f}")

    def _joined(self, texts: list[str]) -> Floats:
        one = self.english_vectors[[self.english[text] for text in texts]]
        other = self.both_vectors[[self.both[text] for text in texts]]
        return np.hstack([one, self.weight * other])

    def _multilingual(self, texts: list[str]) -> Floats:
        vectors = self.both_vectors[[self.both[text] for text in texts]]
        return np.hstack([vectors, np.ones((len(vectors), 1), np.float32)])

    def knows(self, text: str) -> bool:
        """Whether there is a vector for the text."""
        return text in self.both and (is_korean(text) or text in self.english)

    def of_english(self, texts: list[str]) -> Floats:
        """Unit vectors of English texts."""
        return unit((self._joined(texts) - self.mean) @ self.axes)

    def of_korean(self, texts: list[str]) -> Floats:
        """Unit vectors of Korean texts without a translation."""
        return unit(self._multilingual(texts) @ self.map)

    def of(self, texts: list[str]) -> Floats:
        """Unit vectors of texts of either language."""
        found = np.zeros((len(texts), self.axes.shape[1]), np.float32)
        korean = np.array([is_korean(text) for text in texts], bool)
        for part, run in ((korean, self.of_korean), (~korean, self.of_english)):
            where = np.flatnonzero(part)
            if len(where):
                found[where] = run([texts[row] for row in where])
        return found


def to_teach(pairs: list[tuple[str, str]], teachers: Teachers) -> list[tuple[str, str]]:
    """Distinct (Korean, English) pairs whose English side the teachers have seen."""
    return [
        (ko, en)
        for ko, en in dict.fromkeys(pairs)
        if is_korean(ko) and not is_korean(en) and teachers.knows(en)
    ]


def lessons(
    groups: dict[str, list[tuple[str, str]]],
    single: list[str],
    teachers: Teachers,
    tokenizer: Tokenizer,
) -> list[tuple[float, Lesson]]:
    """What is distilled: translations (both sides to one vector), words, and single texts."""
    found: list[tuple[float, Lesson]] = []
    sentences = to_teach(
        groups["general"] + groups["news_parallel"] + groups["news_same"], teachers
    )
    words = to_teach(groups["dictionary"] + groups["thesaurus_english"], teachers)
    for share, pairs in ((2.0, sentences), (1.0, words)):
        targets = teachers.of_english([en for _, en in pairs])
        for side in (0, 1):
            found.append((share, Lesson(Rows.of(tokenizer, [p[side] for p in pairs]), targets)))
    taught = set(teachers.both)
    rest = {text for pairs in groups.values() for pair in pairs for text in pair if text in taught}
    rest |= taught.intersection(single)
    rest -= {text for pair in sentences + words for text in pair}
    for korean in (True, False):
        texts = sorted(t for t in rest if is_korean(t) == korean and teachers.knows(t))
        if texts:
            found.append((1.0, Lesson(Rows.of(tokenizer, texts), teachers.of(texts))))
    for share, lesson in found:
        log(f"lesson of {len(lesson.rows)} texts, share {share}")
    return found


def start(tokenizer: Tokenizer, teachers: Teachers, counts: Ints, recipe: Recipe) -> Floats:
    """First vectors: what the teachers make of each piece alone, scaled down when frequent.

    The same for every seed: only runs from one start can be averaged.
    """
    rng = np.random.default_rng(0)
    size = tokenizer.get_vocab_size()
    matrix = 0.35 * rng.standard_normal((size, recipe.dimensions)).astype(np.float32)
    pieces = [(tokenizer.id_to_token(index) or "").lstrip("▁") for index in range(size)]
    known = [index for index, piece in enumerate(pieces) if index > 1 and teachers.knows(piece)]
    vectors = teachers.of([pieces[index] for index in known])
    matrix[known] += vectors * np.sqrt(recipe.dimensions)
    scale = recipe.sif / (recipe.sif + counts / counts.sum())
    scale[:2] = 0.01
    log(f"{len(known)} of {size} pieces start from the teachers")
    matrix *= scale[:, None].astype(np.float32)
    return matrix


class Articles:
    """Whole articles as batches: questions of several against all their sentences."""

    def __init__(self, rows: list[dict[str, Any]], tokenizer: Tokenizer) -> None:
        sentences: list[str] = []
        translations: list[str] = []
        questions: list[str] = []
        self.answers: list[list[int]] = []
        self.sentences: list[NDArray[np.int64]] = []
        self.asked: list[list[list[list[int]]]] = []
        """article → question → [Korean forms, English forms] → number of the text."""
        for row in rows:
            first = len(sentences)
            sentences += [ko for ko, _ in row["sentences"]]
            translations += [en for _, en in row["sentences"]]
            self.sentences.append(np.arange(first, len(sentences)))
            forms: list[list[list[int]]] = []
            for question in row["questions"]:
                both = []
                for texts in (
                    [question["ko"], *question["paraphrases_ko"]],
                    [question["en"], *question["paraphrases_en"]],
                ):
                    both.append(list(range(len(questions), len(questions) + len(texts))))
                    questions += texts
                    self.answers += [[first + index for index in question["answer"]]] * len(texts)
                forms.append(both)
            self.asked.append(forms)
        self.korean = Rows.of(tokenizer, sentences)
        self.english = Rows.of(tokenizer, translations)
        self.questions = Rows.of(tokenizer, questions)
        self.owner = np.repeat(np.arange(len(rows)), [len(s) for s in self.sentences])

    def draw(
        self, count: int, rng: np.random.Generator
    ) -> tuple[Ints, Ints, NDArray[np.bool_], NDArray[np.bool_]]:
        """Questions, sentences, which answers which, which are of one article."""
        chosen = rng.choice(len(self.asked), min(count, len(self.asked)), replace=False)
        sentences = np.concatenate([self.sentences[index] for index in chosen])
        asked: list[int] = []
        owners: list[int] = []
        for index in chosen:
            for forms in self.asked[index]:
                korean, english = forms
                asked += [int(rng.choice(korean)), int(rng.choice(english))]
                owners += [index, index]
        place = {int(sentence): number for number, sentence in enumerate(sentences)}
        right = np.zeros((len(asked), len(sentences)), bool)
        for row, question in enumerate(asked):
            right[row, [place[sentence] for sentence in self.answers[question]]] = True
        same = np.array(owners)[:, None] == self.owner[sentences][None]
        return np.array(asked), sentences, right, same


class Trainer:
    """A run: data, matrix, optimiser, and its checkpoint."""

    def __init__(self, work: Path, cache: Path, run: str, recipe: Recipe) -> None:
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
        self.articles = Articles(read_rows(work / "articles.jsonl"), tokenizer)
        self.names = [n for n in SHARE if n in self.groups and len(self.groups[n].left) > 65]
        share = np.array([SHARE[name] for name in self.names])
        self.share = share / share.sum()
        size = tokenizer.get_vocab_size()
        counts = sum(
            np.bincount(rows.flat, minlength=size)
            for group in self.groups.values()
            for rows in (group.left, group.right)
        )
        pairs = [pair for name in PARALLEL for pair in texts[name] if is_korean(pair[0])]
        teachers = Teachers(cache, pairs, recipe)
        self.lessons = lessons(texts, read_rows(work / "lessons" / "ko.jsonl"), teachers, tokenizer)
        share = np.array([weight for weight, _ in self.lessons])
        self.lesson_share = share / share.sum()
        first = start(tokenizer, teachers, np.asarray(counts), recipe)
        self.matrix = torch.nn.Parameter(torch.from_numpy(first))
        self.optimiser = torch.optim.Adam(
            [self.matrix], lr=recipe.rate, betas=(0.9, 0.99), fused=True
        )
        self.mean = self.matrix.detach().clone() if recipe.average else None
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
        if self.mean is not None:
            self.mean.copy_(state["mean"])
        log(f"going on at step {self.step}")

    def save(self) -> None:
        """Writes the checkpoint, replacing the old one only when whole."""
        temporary = self.checkpoint.with_suffix(".tmp")
        state = {
            "matrix": self.matrix.data,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "random": json.dumps(self.rng.bit_generator.state),
            "mean": self.mean,
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
        elif name.startswith(("news", "general", "adobe")):
            left, right = self.dropped(left, recipe.drop), self.dropped(right, recipe.drop)
        x, y = self.embed(left), self.embed(right)
        a, b = group.left_text[chosen], group.right_text[chosen]
        same = torch.from_numpy((a[:, None] == a) | (b[:, None] == b) | (a[:, None] == b))
        same.fill_diagonal_(False)
        wanted = torch.arange(size)
        loss = torch.zeros(())
        for width, weight in self.widths():
            scores = recipe.scale * F.normalize(x[:, :width]) @ F.normalize(y[:, :width]).T
            scores = scores.masked_fill(same, -1e4)
            both = F.cross_entropy(scores, wanted) + F.cross_entropy(scores.T, wanted)
            loss = loss + weight * both / 2
        return loss

    def article_loss(self) -> torch.Tensor:
        """Questions against all sentences of many articles, and against those of their own."""
        asked, sentences, right, same = self.articles.draw(self.recipe.articles, self.rng)
        source = self.articles.korean if self.rng.random() < 0.75 else self.articles.english
        x = self.embed(self.dropped(self.articles.questions.take(asked), self.recipe.drop))
        y = self.embed(self.dropped(source.take(sentences), self.recipe.drop))
        answers, own = torch.from_numpy(right), torch.from_numpy(same)
        loss = torch.zeros(())
        for width, weight in self.widths():
            scores = self.recipe.scale * F.normalize(x[:, :width]) @ F.normalize(y[:, :width]).T
            found = scores.masked_fill(~answers, -1e4).logsumexp(1)
            all_of = scores.logsumexp(1) - found
            inside = scores.masked_fill(~own, -1e4).logsumexp(1) - found
            loss = loss + weight * (all_of + self.recipe.within * inside).mean()
        return loss

    def distil_loss(self) -> torch.Tensor:
        """Pulls texts to the teachers' vectors, and away from those of other texts."""
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
            if self.rng.random() < recipe.article:
                name = "article"
                loss = self.article_loss()
            else:
                name = str(self.rng.choice(self.names, p=self.share))
                loss = self.pair_loss(name)
            seen[name].append(float(loss.detach()))
            if recipe.distil and self.step % 2 == 0:
                taught = self.distil_loss() + self.distil_loss()
                seen["distil"].append(float(taught.detach()))
                loss = loss + recipe.distil * taught
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.step += 1
            if self.mean is not None:
                decay = min(recipe.average, self.step / (self.step + 9))
                self.mean.lerp_(self.matrix.data, 1 - decay)
            if self.step % 200 == 0:
                shown = ("general", "news_cross", "dictionary", "subset_ko", "article", "distil")
                means = " ".join(f"{n} {np.mean(seen[n]):.2f}" for n in shown if n in seen)
                log(f"step {self.step}, {time.monotonic() - begun:.0f} s: {means}")
                seen.clear()
            if self.step % self.recipe.save_every == 0:
                self.save()
        matrix = (self.mean if self.mean is not None else self.matrix.data).numpy()
        np.save(self.out, matrix.astype(np.float16))
        self.checkpoint.unlink(missing_ok=True)
        return matrix


def main() -> None:
    """Command line: an option for every field of Recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--run", required=True)
    for field in fields(Recipe):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    options = parser.parse_args()
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    trainer = Trainer(options.work, options.cache, options.run, recipe)
    matrix = trainer.train()
    if not (options.work / "dev-news.jsonl").stat().st_size:
        return
    tokenizer = Tokenizer.from_file(str(options.work / "tokenizer.json"))
    found = on_dev(lambda texts: embed(matrix, tokenizer, texts), options.work, options.cache)
    log(json.dumps({name: round(float(value), 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
