"""Work that is the same in every run, timed in every block."""

from __future__ import annotations

from collections.abc import Callable

import torch


def sentinel(device: torch.device) -> Callable[[], None]:
    """A fixed copy and matmul, the same in every run: when its time moves, the machine moved and not the arms."""
    fast = device.type == "cuda"
    side, dtype = (4096, torch.bfloat16) if fast else (512, torch.float32)
    source = torch.full(((256 if fast else 16) * 2**20,), 7, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    generator = torch.Generator(device=device).manual_seed(0)
    matrix = torch.randn(side, side, dtype=dtype, device=device, generator=generator)
    product = torch.empty_like(matrix)

    def run() -> None:
        target.copy_(source)
        torch.mm(matrix, matrix, out=product)

    return run
