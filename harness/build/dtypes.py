"""Element types: their names in records, and the wider one that judges each."""

from __future__ import annotations

import torch


def wider(dtype: torch.dtype) -> torch.dtype:
    """The type that references are computed in: float64 for float32, float32 for the half types."""
    return torch.float64 if dtype == torch.float32 else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")
