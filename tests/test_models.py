"""Other embedding models and a reranker: real transformers, made on the spot with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forumqa.dense import CrossEncoderReranker, TransformerEmbedder, load_embedder
from forumqa.engine import ForumQA
from forumqa.schema import EmbedderMismatch, ForumQAError, Settings

pytestmark = pytest.mark.filterwarnings("ignore")
TEXT = "가람시는 5월 7일 시민회관에서 포럼을 열었다. 새 다리는 내년에 놓인다. 시장은 웃었다."


def tiny_transformer(folder: Path, *, cross: bool = False) -> str:
    """Save a BERT of one layer whose pieces are the letters of ``TEXT``; return its path."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertModel,
        PreTrainedTokenizerFast,
    )

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
    tokenizer.train_from_iterator([TEXT, "query: passage:"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **dict(zip(names, special, strict=True))
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=1,
    )
    model = BertForSequenceClassification(config) if cross else BertModel(config)
    model.save_pretrained(folder)
    return str(folder)


def forum_of(folder: Path, settings: Settings) -> ForumQA:
    (folder / "corpus").mkdir(exist_ok=True)
    (folder / "corpus" / "a.txt").write_text(TEXT, encoding="utf-8")
    return ForumQA(folder / "index", folder / "corpus", settings)


def test_a_transformer_embeds_with_its_prompts(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    path = tiny_transformer(tmp_path / "model")
    settings = Settings(embedder=path, query_prompt="query: ", passage_prompt="passage: ")
    embedder = load_embedder(settings)
    assert isinstance(embedder, TransformerEmbedder) and embedder.dimension == 32
    plain = SentenceTransformer(path, device="cpu")
    for encode, prompt in (
        (embedder.encode_queries, "query: "),
        (embedder.encode_passages, "passage: "),
    ):
        wanted = plain.encode([prompt + "새 다리"], normalize_embeddings=True)
        assert np.allclose(encode(["새 다리"]), wanted, atol=1e-5)
    forum = forum_of(tmp_path, settings)
    forum.rebuild()
    answer = forum.ask("새 다리는 언제 놓이나요?")
    assert answer.hits and all(c.quote in TEXT for c in answer.citations)
    with pytest.raises(EmbedderMismatch, match="forumqa rebuild"):
        forum_of(tmp_path, Settings(embedder=path)).ask("새 다리?")


def test_a_reranker_orders_the_best_sentences(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    path = tiny_transformer(tmp_path / "cross", cross=True)
    forum = forum_of(tmp_path, Settings(reranker=path))
    forum.rebuild()
    snapshot, ranking = forum._rank("시장은 어땠나요?", ())
    texts = []
    for row in ranking.rows.tolist():
        _, start, end = snapshot.sentence(row)
        texts.append(snapshot.documents[0].text[start:end])
    pairs = [("시장은 어땠나요?", f"{snapshot.documents[0].title}\n{text}") for text in texts]
    scores = CrossEncoder(path, device="cpu").predict(pairs)
    assert len(texts) == 3 and list(scores) == sorted(scores, reverse=True)
    assert list(ranking.scores) == sorted(ranking.scores, reverse=True)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ForumQAError, match="FORUMQA_RERANKER"):
        CrossEncoderReranker(str(tmp_path / "nothing"))
    with pytest.raises(ForumQAError, match="FORUMQA_EMBEDDER"):
        load_embedder(Settings(embedder=str(tmp_path / "nothing")))
