"""How many kernels a device runs for one call of an arm: the second floor of a small model's decode step, since each
boundary between two costs about a microsecond in which nothing is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MOVES = ("Memcpy", "Memset")
"""Begin the names of what the copy engines do."""


def kernels_launched(call: Callable[[], object], device: torch.device) -> int | None:
    """Kernels of one `call`, those that a CUDA graph replays among them; None on a device that launches none."""
    if device.type != "cuda":
        return None
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        call()
        torch.cuda.synchronize(device)
    return counted(watched.events())


def counted(events: Iterable[Any]) -> int:
    """Those of a profiler's events that are kernels on the device: no copy, and no range that a program named."""
    from torch._C._autograd import DeviceType

    return sum(
        event.device_type == DeviceType.CUDA and not event.is_user_annotation and not event.name.startswith(MOVES)
        for event in events
    )
