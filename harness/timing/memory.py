"""Device memory in use, in bytes; 0 on a CPU, where nobody counts it."""

from __future__ import annotations

import torch


def allocated(device: torch.device) -> int:
    """Held now, once the device is idle and what nobody uses is given back; the peak is counted from here on."""
    if device.type != "cuda":
        return 0
    # The matmul library's workspace belongs to no arm: what records graphs gives it back, and the next arm that
    # multiplies would be charged for it.
    square = torch.ones(64, 64, dtype=torch.bfloat16, device=device)
    torch.mm(square, square)
    del square
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak(device: torch.device) -> int:
    """The most that was held since `allocated` was asked."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
