"""multilingual-e5-small (Wang et al. 2024, arXiv:2402.05672), and what is tuned from it, as an encoder of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from training.vectors import Ints, Rows

PREFIX = "query: "
"""Both sides carry it, as the model's card says for symmetric tasks."""
LONGEST = 400
"""Characters of a text that are read."""
PIECES = 110
"""Pieces of a text that are read."""


class Encoder:
    """The transformer with its tokenizer: unit vectors, the mean over the pieces."""

    def __init__(self, model: str | Path, bfloat16: bool = False) -> None:
        """bfloat16: reckon with it; an accelerator always does."""
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self.model: Any = AutoModel.from_pretrained(model, dtype=torch.float32).to(self.device)
        self.half = bfloat16 or self.device == "cuda"
        self.chunk = 1024 if self.device == "cuda" else 64
        self.backend: Tokenizer = self.tokenizer.backend_tokenizer

    def rows(self, texts: Sequence[str]) -> Rows:
        """Texts as piece numbers, without the marks of begin and end."""
        return Rows.of(self.backend, [PREFIX + text[:LONGEST] for text in texts], PIECES)

    def batch(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        """Piece numbers and mask of shape (texts, longest)."""
        lengths = np.diff(rows.starts)
        width = int(-(-(lengths.max() + 2) // 8) * 8)
        place = np.arange(width)[None] - 1
        inside = (place >= 0) & (place < lengths[:, None])
        ids = np.full(inside.shape, self.tokenizer.pad_token_id, np.int64)
        ids[inside] = rows.flat
        ids[:, 0] = self.tokenizer.bos_token_id
        ids[np.arange(len(lengths)), lengths + 1] = self.tokenizer.eos_token_id
        mask = (np.arange(width)[None] < lengths[:, None] + 2).astype(np.int64)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def forward(self, rows: Rows) -> torch.Tensor:
        """Unit vectors of shape (texts, dimensions), through which gradients flow.

        Texts of like length are reckoned together, so that little is padding.
        """
        order: Ints = np.argsort(np.diff(rows.starts), kind="stable")
        found = []
        for begin in range(0, len(order), self.chunk):
            ids, mask = self.batch(rows.take(order[begin : begin + self.chunk]))
            with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            weight = mask[..., None].float()
            found.append(F.normalize((states.float() * weight).sum(1) / weight.sum(1), dim=-1))
        return torch.cat(found)[torch.from_numpy(np.argsort(order)).to(self.device)]

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of shape (texts, dimensions), float32."""
        self.model.eval()
        found: NDArray[np.float32] = self.forward(self.rows(texts)).cpu().numpy()
        return found
