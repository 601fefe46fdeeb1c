"""Where logits are wrong, in the rows and tokens that were judged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.parity.levels.logits import Reference, judge_logits


@pytest.fixture
def logits() -> Tensor:
    """[B, T, vocab]."""
    return torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))


def found(ours: Tensor, right: Tensor, rule: str) -> tuple[float, str]:
    (check,) = [c for c in judge_logits(ours, Reference(right.double(), right), "path", "a path") if c.rule == rule]
    return check.error, check.where


def test_the_first_wrong_token_is_named_by_its_row(logits: Tensor) -> None:
    wrong = logits.clone()
    wrong[1, 2:4] = -logits[1, 2:4]
    assert found(wrong, logits, "top-1") == (2, "of 10 judged, first at batch row 1, token 2 of 5")


def test_of_flattened_rows_nobody_knows_the_row(logits: Tensor) -> None:
    wrong = logits.clone()
    wrong[1, 2] = -logits[1, 2]
    flat = found(wrong.flatten(0, 1), logits.flatten(0, 1), "top-1")
    assert flat == (1, "of 10 judged, first at token 7 of all rows")


def test_what_is_not_finite_is_counted_from_its_first_token(logits: Tensor) -> None:
    wrong = logits.clone()
    wrong[0, 3, 0] = torch.inf
    wrong[1, 1] = torch.nan
    assert found(wrong, logits, "finite") == (33, "first at batch row 0, token 3 of 5")


def test_logits_of_another_shape_are_refused_though_as_many(logits: Tensor) -> None:
    assert found(logits.transpose(0, 1), logits, "structure") == (1, "shape (5, 2, 32) instead of (2, 5, 32)")
