"""Rows behind left padding, and which of their logits are judged against which."""

from __future__ import annotations

import torch

from harness.parity.paths.padding import Padded

TOKENS = torch.tensor([[5, 6, 7, 8], [1, 2, 3, 4]])


def test_no_two_rows_are_padded_alike() -> None:
    padded = Padded.unlike(TOKENS)
    assert padded.left_padding == (2, 1)
    assert padded.tokens.tolist() == [[0, 0, 5, 6, 7, 8], [0, 1, 2, 3, 4, 0]]


def test_what_is_judged_from_any_slot_on_is_the_same_tokens_of_both() -> None:
    padded = Padded.unlike(TOKENS)
    for first in range(padded.slots):
        for end in range(first + 1, padded.slots + 1):
            spoken = padded.spoken(padded.tokens[:, first:end, None], first)
            assert spoken.tolist() == padded.expected(TOKENS[..., None], first, end).tolist()
    assert padded.expected(TOKENS[..., None], 4, 6).flatten().tolist() == [7, 8, 4]


def test_rows_without_padding_are_judged_whole() -> None:
    bare = Padded.of(TOKENS, (0, 0))
    assert torch.equal(bare.tokens, TOKENS)
    assert torch.equal(bare.spoken(TOKENS[..., None]), TOKENS.flatten().unsqueeze(1))
