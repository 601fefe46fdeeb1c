"""A Triton kernel that only reads: the ceiling of decode, which is almost all reads."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 4096
STEPS = 8
CHUNK_BYTES = BLOCK * STEPS * 4
"""What one program reads; a buffer is a whole number of these."""


@triton.jit  # type: ignore[untyped-decorator]
def sum_chunks(source, sums, BLOCK: tl.constexpr, STEPS: tl.constexpr):  # type: ignore[no-untyped-def]
    """sums[p] = the sum of chunk p, so that no load can be left out. int32, wrapping."""
    chunk = tl.program_id(0).to(tl.int64) * (BLOCK * STEPS)
    offsets = chunk + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], dtype=tl.int32)
    for step in tl.static_range(STEPS):
        total += tl.load(source + offsets + step * BLOCK)
    tl.store(sums + tl.program_id(0), tl.sum(total, axis=0))


def read_all(source: torch.Tensor, sums: torch.Tensor) -> None:
    """Read `source` (int32, a whole number of chunks) once; `sums` has one int32 per chunk."""
    sum_chunks[(sums.numel(),)](source, sums, BLOCK=BLOCK, STEPS=STEPS, num_warps=8)
