"""Rows of one length behind left padding, each behind some of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Padded:
    """Row b's tokens stand from slot left_padding[b] on. Zeros stand before them, and behind up to the longest row's
    end; logits of neither are judged."""

    tokens: Tensor
    """[B, slots] int64"""
    left_padding: tuple[int, ...]

    @classmethod
    def of(cls, tokens: Tensor, left_padding: Sequence[int]) -> Padded:
        """tokens [B, T] in T + max(left_padding) slots."""
        batch, length = tokens.shape
        padded = tokens.new_zeros(batch, length + max(left_padding))
        for row, start in enumerate(left_padding):
            padded[row, start : start + length] = tokens[row]
        return cls(padded, tuple(left_padding))

    @classmethod
    def unlike(cls, tokens: Tensor) -> Padded:
        """Row b behind B - b tokens: no two rows are padded alike."""
        return cls.of(tokens, range(len(tokens), 0, -1))

    @property
    def most(self) -> int:
        return max(self.left_padding)

    @property
    def slots(self) -> int:
        return self.tokens.shape[1]

    def spoken(self, logits: Tensor, first: int = 0) -> Tensor:
        """Of logits [B, N, vocab] of N slots from `first` on, those of tokens [tokens, vocab], row after row."""
        slots = first + torch.arange(logits.shape[1], device=logits.device)
        left_padding = self._starts(logits.device)
        return logits[(slots >= left_padding) & (slots < left_padding + self.slots - self.most)]

    def expected(self, logits: Tensor, first: int, end: int) -> Tensor:
        """Of logits [B, T, vocab] of the rows alone, what `spoken` gives of the slots from `first` to `end`."""
        slots = self._starts(logits.device) + torch.arange(logits.shape[1], device=logits.device)
        return logits[(slots >= first) & (slots < end)]

    def _starts(self, device: torch.device) -> Tensor:
        return torch.tensor(self.left_padding, device=device).unsqueeze(1)
