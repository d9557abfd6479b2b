"""The dense side: embedding models and the FAISS index over sentence vectors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forumqa.schema import Embedder, ForumQAError, MissingDependency, Settings

DEFAULT_MODEL = Path(__file__).parent / "model"


class StaticEmbedder:
    """A static sentence-transformers model, read without torch.

    The forward pass of ``sentence_transformers`` ``StaticEmbedding`` is the mean of the rows of
    one matrix, one row per token; the unit vector of that mean is what both paths return.
    """

    def __init__(self, path: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self.name = "default" if path == DEFAULT_MODEL else str(path)
        weights, tokenizer = path / "model.safetensors", path / "tokenizer.json"
        digest = hashlib.sha256(weights.read_bytes())
        digest.update(tokenizer.read_bytes())
        self.fingerprint = digest.hexdigest()[:16]
        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.matrix: NDArray[np.float16] = load_file(weights)["embedding.weight"]
        self.dimension = int(self.matrix.shape[1])

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        if len(texts) == 1:  # a batch of one pays for threads that it does not need
            return [self._tokenizer.encode(texts[0], add_special_tokens=False)]
        return list(self._tokenizer.encode_batch(list(texts), add_special_tokens=False))

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text as ``2 * id``, plus one where a word begins."""
        out = []
        for text, item in zip(texts, self._encode(texts), strict=True):
            row = []
            for i, (token, (start, _)) in enumerate(zip(item.ids, item.offsets, strict=True)):
                begins = i == 0 or start == 0 or text[start - 1].isspace()
                row.append(2 * token + begins)
            out.append(row)
        return out

    def vectors_of(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the matrix rows of tokens as :meth:`tokens` gives them."""
        return np.asarray(self.matrix[tokens >> 1], np.float32)

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        out = np.zeros((len(texts), self.dimension), np.float32)
        for row, item in enumerate(self._encode(texts)):
            if item.ids:
                out[row] = self.matrix[item.ids].mean(axis=0, dtype=np.float32)
        return unit(out)

    encode_queries = encode_passages


class TransformerEmbedder:
    """Any other sentence-transformers model, by hub name or local path."""

    def __init__(self, settings: Settings) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:  # pragma: no cover - a declared dependency
            raise MissingDependency(
                f"The embedder {settings.embedder!r} needs sentence-transformers: "
                "pip install sentence-transformers."
            ) from error
        try:
            self._model: Any = SentenceTransformer(settings.embedder, device="cpu")
        except (OSError, ValueError) as error:
            raise ForumQAError(
                f"The embedding model {settings.embedder!r} cannot be loaded ({error}); set "
                "FORUMQA_EMBEDDER to a folder or hub name that exists, or unset it."
            ) from error
        self.name = settings.embedder
        self._query_prompt, self._passage_prompt = settings.query_prompt, settings.passage_prompt
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        # A hub model has no single file to hash: two models that embed one text alike are alike.
        probe = self._model.encode(["지역 기업 a city 1"], normalize_embeddings=True)
        prompts = json.dumps([self._query_prompt, self._passage_prompt])
        digest = hashlib.sha256(np.round(probe, 3).astype(np.float32).tobytes() + prompts.encode())
        self.fingerprint = digest.hexdigest()[:16]

    def _encode(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        vectors = self._model.encode(
            [prompt + text for text in texts], normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts, self._query_prompt)

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts, self._passage_prompt)


class CrossEncoderReranker:
    """Any cross-encoder of sentence-transformers, by hub name or local path."""

    def __init__(self, name: str) -> None:
        from sentence_transformers import CrossEncoder

        try:
            self._model: Any = CrossEncoder(name, device="cpu")
        except (OSError, ValueError) as error:
            raise ForumQAError(
                f"The reranker {name!r} cannot be loaded ({error}); set FORUMQA_RERANKER to a "
                "folder or hub name that exists, or unset it."
            ) from error
        self.name = name

    def score(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        pairs = [(question, text) for text in texts]
        return np.asarray(self._model.predict(pairs, show_progress_bar=False), np.float32)


def load_embedder(settings: Settings) -> Embedder:
    """Return the embedder that the settings name. Raises ForumQAError where it cannot be had."""
    path = DEFAULT_MODEL if settings.embedder == "default" else Path(settings.embedder)
    if _is_static(path) and not (settings.query_prompt or settings.passage_prompt):
        return StaticEmbedder(path)
    return TransformerEmbedder(settings)


def _is_static(path: Path) -> bool:
    modules = path / "modules.json"
    if not modules.is_file():
        return False
    types = [str(module["type"]) for module in json.loads(modules.read_text(encoding="utf-8"))]
    return types[0].endswith("StaticEmbedding") and all("Normalize" in t for t in types[1:])


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length one; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


class DenseIndex:
    """Inner-product search over sentence vectors.

    FAISS's scalar quantiser in half precision: exhaustive, so exact to three decimals, at half the
    memory of a flat index.
    """

    def __init__(self, index: Any) -> None:
        import faiss

        self._index = index
        # One question over so few vectors takes less time than waking a second thread.
        faiss.omp_set_num_threads(1 if index.ntotal < 100_000 else os.cpu_count() or 1)

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> DenseIndex:
        import faiss

        index = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        index.add(np.ascontiguousarray(vectors, np.float32))
        return cls(index)

    @classmethod
    def merge(cls, old: DenseIndex, reuse: NDArray[np.int64], fresh: DenseIndex) -> DenseIndex:
        """Return rows taken from ``old`` (row ``reuse[i]``) or, where that is -1, from ``fresh`` in
        order. The stored codes are copied, so nothing is rounded again."""
        import faiss

        pick = reuse.copy()
        pick[reuse < 0] = len(old) + np.arange(len(fresh))
        codes = np.concatenate([old._codes(), fresh._codes()])[pick]
        index: Any = faiss.clone_index(fresh._index)
        index.reset()
        faiss.copy_array_to_vector(codes.ravel(), index.codes)
        index.ntotal = len(pick)
        return cls(index)

    def _codes(self) -> NDArray[np.uint8]:
        import faiss

        codes = faiss.vector_to_array(self._index.codes)
        return np.asarray(codes, np.uint8).reshape(len(self), self._index.code_size)

    @classmethod
    def from_bytes(cls, data: bytes) -> DenseIndex:
        import faiss

        return cls(faiss.deserialize_index(np.frombuffer(data, np.uint8)))

    def to_bytes(self) -> bytes:
        """Return the serialised index; files are written by the store, never by FAISS, so that
        non-ASCII paths work (facebookresearch/faiss#3073) and every byte is checksummed."""
        import faiss

        return bytes(faiss.serialize_index(self._index).tobytes())

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    def search(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (scores, rows) of the k nearest sentences, best first; shapes (min(k, n),)."""
        k = min(k, len(self))
        if k == 0 or not query.any():
            return np.zeros(0, np.float32), np.zeros(0, np.int64)
        scores, rows = self._index.search(query.reshape(1, -1), k)
        return scores[0], rows[0]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the stored vectors of the rows; shape (len(rows), dimension)."""
        if len(rows) == 0:
            return np.zeros((0, self.dimension), np.float32)
        return np.asarray(self._index.reconstruct_batch(rows), np.float32)
