"""The state of the GPU while it is timed: clocks, heat, power, throttling, and who else is on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

DROPPING = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Clock event reasons that drop a block: the machine, not the work, cut the clock (heat, supply, an external brake), so
the arms of that block may have run at different clocks."""
LIMITING = {
    0x02: "user-set clocks",
    0x04: "software power cap",
    0x10: "sync boost",
    0x100: "display clock setting",
}
"""Clock event reasons that are told and drop nothing. The power cap is the steady state of a GPU that is kept busy, and
the work's own doing: dropping it would leave no block of any heavy kernel. Idle (0x01) is the gap between samples."""


@dataclass(frozen=True)
class State:
    """One look at the GPU; None where it does not tell."""

    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttle: tuple[str, ...] = ()
    """Reasons that drop the block."""
    limits: tuple[str, ...] = ()
    """Reasons that do not."""
    foreign_processes: int = 0


class Telemetry(Protocol):
    def read(self) -> State: ...

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded: take the difference of two, at least a second apart (the counter moves
        in steps of some tens of milliseconds)."""
        ...

    def memory_bytes(self) -> int | None:
        """In use on the whole GPU now, by whoever: contexts, captured graphs and the allocator's reserve included."""
        ...


class NoTelemetry:
    """A device that has nothing to tell, such as a CPU."""

    def read(self) -> State:
        return State()

    def energy_j(self) -> float | None:
        return None

    def memory_bytes(self) -> int | None:
        return None


class NvmlTelemetry:
    """One GPU through NVML, chosen by UUID: an index would name another GPU once CUDA_VISIBLE_DEVICES reorders them.

    `root_pid` is the process whose tree is at home on the GPU; read while it holds a CUDA context there.
    """

    def __init__(self, uuid: str, root_pid: int | None = None) -> None:
        import pynvml

        self._nvml: Any = pynvml
        pynvml.nvmlInit()
        self._gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        self._root_pid = root_pid or os.getpid()

    def read(self) -> State:
        nvml, gpu = self._nvml, self._gpu
        throttle, limits = decode(self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)) or 0)
        milliwatts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(gpu))
        processes = self._ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(gpu)) or ()
        return State(
            sm_clock_mhz=self._ask(lambda: float(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM))),
            temperature_c=self._ask(lambda: float(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU))),
            power_w=None if milliwatts is None else milliwatts / 1e3,
            throttle=throttle,
            limits=limits,
            foreign_processes=foreign([process.pid for process in processes], self._root_pid),
        )

    def energy_j(self) -> float | None:
        millijoules = self._ask(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu))
        return None if millijoules is None else millijoules / 1e3

    def memory_bytes(self) -> int | None:
        return self._ask(lambda: int(self._nvml.nvmlDeviceGetMemoryInfo(self._gpu).used))

    def _ask(self, query: Callable[[], T]) -> T | None:
        """None where this GPU or this container does not support the query; every other failure is raised."""
        try:
            return query()
        except (self._nvml.NVMLError_NotSupported, self._nvml.NVMLError_NoPermission):
            return None


def telemetry_for(device: torch.device, root_pid: int | None = None) -> Telemetry:
    if device.type != "cuda":
        return NoTelemetry()
    import torch

    return NvmlTelemetry(f"GPU-{torch.cuda.get_device_properties(device).uuid}", root_pid)


def decode(reasons: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """NVML's bit mask of clock event reasons as words: those that drop a block, those that do not.

    A bit that is not known here drops the block: a state that nobody has judged is not fit to time in.
    """
    known = sum(DROPPING) | sum(LIMITING) | 0x01
    unknown = reasons & ~known
    dropping = [word for bit, word in DROPPING.items() if reasons & bit]
    if unknown:
        dropping.append(f"unknown reason {unknown:#x}")
    return tuple(dropping), tuple(word for bit, word in LIMITING.items() if reasons & bit)


def foreign(pids: Iterable[int], root: int, parent_of: Callable[[int], int | None] | None = None) -> int:
    """How many of the processes on a GPU are not of the tree below `root`.

    In a container NVML may number processes as the host does. Then none is recognized although this one is on the GPU,
    so one of them is taken for it.
    """
    found = list(pids)
    at_home = sum(_descends(pid, root, parent_of or _parent) for pid in found)
    return max(0, len(found) - max(1, at_home))


def _descends(pid: int, root: int, parent_of: Callable[[int], int | None]) -> bool:
    current: int | None = pid
    while current is not None and current > 1 and current != root:
        current = parent_of(current)
    return current == root


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])
