"""What the tests share: a hand-computable embedder, small corpora, and no network but loopback."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent


class HashEmbedder:
    """Counts words: each lands in one of 64 places by its hash. Two texts of the same words have
    the same vector, and texts without a common word are (nearly always) orthogonal."""

    name = "hash"
    fingerprint = "hash-64"
    dimension = 64

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded.extend(texts)
        out = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                place = hashlib.sha256(word.encode()).digest()[0] % self.dimension
                out[row, place] += 1
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        return np.divide(out, norms, out=np.zeros_like(out), where=norms > 0)

    encode_queries = encode_passages


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder()


@pytest.fixture(scope="session")
def forum_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the shipped corpus."""
    from forumqa import rebuild

    index = tmp_path_factory.mktemp("forum") / "index"
    rebuild(ROOT / "corpus", index)
    return index


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail any connection that leaves the machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple):
            host = str(address[0])
            local = host == "localhost" or ipaddress.ip_address(host).is_loopback
            assert local, f"a connection to {host} was tried"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield
