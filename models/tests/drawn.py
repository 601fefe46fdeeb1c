"""Gaussian values that a seed gives again."""

from __future__ import annotations

import torch
from torch import Tensor


def drawn(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
