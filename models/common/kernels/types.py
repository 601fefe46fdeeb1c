"""Names of tensor types in Triton's signatures."""

from __future__ import annotations

import torch

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def pointer(dtype: torch.dtype) -> str:
    """`*bf16` for a pointer to bfloat16."""
    return f"*{NAMES[dtype]}"
