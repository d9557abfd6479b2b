"""Each side against a naive oracle, and questions as people write them."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from forumqa.dense import DEFAULT_MODEL, DenseIndex, StaticEmbedder, load_embedder
from forumqa.engine import ForumQA
from forumqa.lexical import Postings, Ragged
from forumqa.schema import Settings


def naive_bm25(query: list[int], units: list[list[int]], k1: float, b: float) -> list[float]:
    """Robertson's BM25 with Lucene's idf, straight from the formula."""
    count = len(units)
    mean = sum(map(len, units)) / count
    scores = []
    for unit in units:
        score = 0.0
        for term in query:
            df = sum(term in other for other in units)
            idf = math.log(1 + (count - df + 0.5) / (df + 0.5))
            tf = unit.count(term)
            score += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(unit) / mean))
        scores.append(score)
    return scores


def test_bm25_equals_the_formula() -> None:
    rng = random.Random(7)
    units = [[rng.randrange(30) for _ in range(rng.randrange(1, 25))] for _ in range(60)]
    postings = Postings.build(Ragged.of(units), 30)
    for _ in range(20):
        query = rng.sample(range(30), 5)
        got = postings.score([(term, 1.0) for term in query])
        assert np.allclose(got, naive_bm25(query, units, 1.2, 0.75), atol=1e-4)


def test_of_alternatives_the_best_counts_once() -> None:
    postings = Postings.build(Ragged.of([[0, 1], [0], [2]]), 3)
    single = postings.score([(0, 1.0)])
    both = postings.score_best([[(0, 1.0), (1, 1.0)]])
    assert both[1] == pytest.approx(single[1])
    assert both[0] == pytest.approx(max(single[0], postings.score([(1, 1.0)])[0]))


def test_faiss_equals_numpy_and_survives_bytes() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((300, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = DenseIndex.from_bytes(DenseIndex.build(vectors).to_bytes())
    for query in vectors[:20]:
        scores, rows = index.search(query, 10)
        exact = np.sort(vectors @ query)[::-1][:10]
        assert np.allclose(scores, exact, atol=2e-3)
        assert rows[0] == int(np.argmax(vectors @ query))
    assert np.allclose(index.vectors(np.arange(5)), vectors[:5], atol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_the_light_path_gives_the_vectors_of_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["LG CNS는 지역 기업에 무엇을 제안했나요?", "What did LG CNS propose?", "120명", ""]
    model = SentenceTransformer(str(DEFAULT_MODEL), device="cpu")
    model.float()
    wanted = model.encode(texts, normalize_embeddings=True)
    got = StaticEmbedder(DEFAULT_MODEL).encode_passages(texts)
    assert np.allclose(got, wanted, atol=1e-5)
    assert isinstance(load_embedder(Settings()), StaticEmbedder)


@pytest.mark.parametrize(
    ("question", "terms"),
    [
        ("엘지씨엔에스는 무엇을 제안했나요?", {"lg", "cns", "제안"}),
        ("LG씨엔에스가 지역기업에 제안한 것은?", {"lg", "cns", "지역", "기업", "제안"}),
        ("엘지 CNS 제안", {"lg", "cns", "제안"}),
        ("지역기업에무엇을제안했나요", {"지역", "기업", "제안"}),
        ("지역 기엄에 제안", {"지역", "기업", "제안"}),
        ("ITS 뱅크 대표", {"its", "뱅크", "대표"}),
        ("What did Kim Jun-yeon say about Goyang?", {"김준연", "고양"}),
        ("Junyeon Kim", {"김준연"}),
        ("Yoo In-sang of LG CNS", {"유인상", "lg", "cns"}),
    ],
)
def test_questions_meet_the_terms_of_the_material(
    forum_index: Path, question: str, terms: set[str]
) -> None:
    forum = ForumQA(forum_index)
    lexical = forum._ready()[0].lexical
    read = {lexical.terms[i] for term in lexical.read(question) for i, _ in term.words}
    assert terms <= read
