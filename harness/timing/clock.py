"""Two clocks with one interface: the wall for work on the CPU, an event pair beside the wall for work on a GPU."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Reading:
    """One elapsed time, seen twice. They disagree when work ran where the device's events did not look."""

    device_ms: float
    wall_ms: float

    @property
    def disagreement(self) -> float:
        """Relative difference of the two."""
        return abs(self.wall_ms - self.device_ms) / self.wall_ms if self.wall_ms else 0.0


class Clock(Protocol):
    """Times work on one device. A sample shorter than `shortest_ms` is mostly the clock's own error."""

    @property
    def device(self) -> torch.device: ...

    @property
    def shortest_ms(self) -> float: ...

    def measure(self, run: Callable[[], None]) -> Reading: ...

    def now_s(self) -> float:
        """Seconds since any fixed moment; bounds a measurement, is never a sample."""
        ...


class CpuClock:
    """The monotonic wall clock, with Python's collector held off during a sample. Events and wall are the same here."""

    shortest_ms = 5.0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def measure(self, run: Callable[[], None]) -> Reading:
        with _collector_off():
            start = time.perf_counter_ns()
            run()
            elapsed_ms = (time.perf_counter_ns() - start) / 1e6
        return Reading(elapsed_ms, elapsed_ms)

    def now_s(self) -> float:
        return time.monotonic()


class CudaClock:
    """An event pair on the current stream inside a wall-clock pair that waits for the whole device.

    Work put on another stream and not waited for is missed by the events and caught by the wall.
    """

    shortest_ms = 0.05

    def __init__(self, device: torch.device) -> None:
        import torch

        self.device = device
        self._cuda: Any = torch.cuda
        self._start = self._cuda.Event(enable_timing=True)
        self._stop = self._cuda.Event(enable_timing=True)

    def measure(self, run: Callable[[], None]) -> Reading:
        with self._cuda.device(self.device), _collector_off():
            self._cuda.synchronize()
            wall = time.perf_counter_ns()
            self._start.record()
            run()
            self._stop.record()
            self._cuda.synchronize()
            wall_ms = (time.perf_counter_ns() - wall) / 1e6
        return Reading(self._start.elapsed_time(self._stop), wall_ms)

    def now_s(self) -> float:
        return time.monotonic()


def clock_for(device: torch.device) -> Clock:
    return CudaClock(device) if device.type == "cuda" else CpuClock(device)


@contextmanager
def _collector_off() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
