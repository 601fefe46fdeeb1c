"""What is this machine? Asked of NVML and /proc, without importing torch."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import UserError

CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Machine:
    """The devices that a process started now would see, in its own order."""

    kind: Literal["cpu", "cuda"]
    gpu_names: tuple[str, ...]
    gpu_count: int
    gpu_memory_bytes: int | None
    """Of the smallest visible GPU."""
    gpu_uuids: tuple[str, ...]
    capability: tuple[int, int] | None
    """Lowest compute capability among the visible GPUs: (9, 0) on Hopper."""
    driver: str | None
    cpu: str
    cores: int
    """Those this process may run on."""
    memory_bytes: int
    """Installed, or the container's limit if that is less."""


def probe() -> Machine:
    """Look at this machine. Without an NVIDIA driver, or with every GPU hidden, it is a CPU machine.

    Raises UserError where CUDA_VISIBLE_DEVICES names a MIG slice: it has no clock, power or throttle state of its own.
    """
    with nvml() as api:
        gpus = visible_gpus(api) if api else ()
        return Machine(
            kind="cuda" if gpus else "cpu",
            gpu_names=tuple(api.nvmlDeviceGetName(gpu) for gpu in gpus),
            gpu_count=len(gpus),
            gpu_memory_bytes=min((api.nvmlDeviceGetMemoryInfo(gpu).total for gpu in gpus), default=None),
            gpu_uuids=tuple(api.nvmlDeviceGetUUID(gpu) for gpu in gpus),
            capability=min((tuple(api.nvmlDeviceGetCudaComputeCapability(gpu)) for gpu in gpus), default=None),
            driver=api.nvmlSystemGetDriverVersion() if gpus else None,
            cpu=cpu_name(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory_bytes=memory_bytes(),
        )


@contextmanager
def nvml() -> Iterator[Any]:
    """The NVML bindings, initialized; None on a machine without a working NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded, pynvml.NVMLError_NoPermission):
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def visible_gpus(api: Any) -> tuple[Any, ...]:
    """NVML handles of the GPUs that CUDA would show this process, in CUDA's order."""
    handles = [api.nvmlDeviceGetHandleByIndex(index) for index in range(api.nvmlDeviceGetCount())]
    uuids = [api.nvmlDeviceGetUUID(handle) for handle in handles]
    return tuple(handles[index] for index in visible(os.environ.get("CUDA_VISIBLE_DEVICES"), uuids))


def visible(entries: str | None, uuids: Sequence[str]) -> tuple[int, ...]:
    """Read CUDA_VISIBLE_DEVICES as CUDA does: indices or UUID prefixes, ending at the first that names no one GPU.

    Indices are taken in PCI bus order, which is NVML's; CUDA's default order differs only among unlike GPUs.
    """
    if entries is None:
        return tuple(range(len(uuids)))
    chosen: list[int] = []
    for entry in (part.strip() for part in entries.split(",")):
        if entry.startswith("MIG"):
            raise UserError(
                "CUDA_VISIBLE_DEVICES names a MIG slice, which shares its clock and power: give a whole GPU"
            )
        matches = [
            i for i, uuid in enumerate(uuids) if entry == str(i) or (entry[:1] == "G" and uuid.startswith(entry))
        ]
        if len(matches) != 1 or matches[0] in chosen:
            break
        chosen += matches
    return tuple(chosen)


def cpu_name() -> str:
    """The processor's name as the kernel gives it, or else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.machine()


def memory_bytes() -> int:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_MEMORY.read_text().strip() if CGROUP_MEMORY.exists() else "max"
    return installed if limit == "max" else min(installed, int(limit))
