"""The same traffic through the caches before every sample, whatever the arm did to make ready for it."""

from __future__ import annotations

import torch

SWEPT_BYTES = {"cpu": 32 * 2**20, "cuda": 256 * 2**20}
"""On a GPU several times its last cache. A CPU's last cache may be larger and is shared with other work."""


class Sweep:
    """A buffer on `device` that is read and written from end to end."""

    def __init__(self, device: torch.device) -> None:
        self.buffer = torch.zeros(SWEPT_BYTES[device.type] // 4, dtype=torch.int32, device=device)

    def __call__(self) -> None:
        self.buffer.add_(1)
