"""Our kernel timer beside two others on the same launches: triton.testing.do_bench and NVIDIA's NVBench.

All three read cold caches and a launch from a CUDA graph. They differ in two known ways, and each has a bound that is
measured here: the others put an event pair around every single launch, where ours is around many; and they clear the L2
cache by writing zeros, whose dirty lines are still on their way to memory when the kernel begins, where ours reads.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness.errors import HarnessError, UserError
from harness.records.case import Frozen
from harness.records.record import Environment
from harness.spec.kernel import Kernel, OpCase
from harness.timing.kernel_times import captured, time_kernel
from harness.timing.roofline import ceilings

AGREEMENT = 0.02
KERNELS = 5
NVBENCH = "NVBench"
NVBENCH_TIMES = ("nv/cold/time/gpu/median", "nv/cold/time/gpu/mean")
"""Summaries of its isolated, cold measurement in seconds, the better one first: older versions have no median."""


class Bounds(Frozen):
    """By how much another timer may read more than ours, in milliseconds."""

    pair_ms: float
    """What an event pair reads around a launch with next to nothing in it."""
    dirty_ms: float
    """The L2 cache's size at the measured copy rate: its lines being written back."""

    @property
    def total_ms(self) -> float:
        return self.pair_ms + self.dirty_ms


class Reading(Frozen):
    """What another timer read of the same launch, or why it read nothing."""

    timer: str
    median_ms: float | None = None
    absent: str | None = None


class Agreement(Frozen):
    """One kernel at one shape."""

    kernel: str
    case: str
    ours_ms: float
    others: tuple[Reading, ...]

    def difference(self, other: Reading) -> float | None:
        """Relative, positive where the other reads more; None where it read nothing."""
        return None if other.median_ms is None else other.median_ms / self.ours_ms - 1

    def reason(self, other: Reading, bounds: Bounds) -> str | None:
        """`agrees`, or what explains the difference; None where nothing does."""
        apart = self.difference(other)
        if apart is None or other.median_ms is None:
            return other.absent
        if abs(apart) <= AGREEMENT:
            return "agrees"
        if 0 < other.median_ms - self.ours_ms <= AGREEMENT * self.ours_ms + bounds.total_ms:
            return f"event pair {bounds.pair_ms:.2g} ms and write-back of the cleared cache {bounds.dirty_ms:.2g} ms"
        return None


class CrossCheck(Frozen):
    """Five kernels on one machine with one set of versions."""

    environment: Environment
    model: str
    dtype: str
    seed: int
    bounds: Bounds
    agreements: tuple[Agreement, ...]

    @property
    def holds(self) -> bool:
        """Every difference is small or explained, do_bench read every kernel, and there were enough of them."""
        return len(self.agreements) >= KERNELS and all(
            row.reason(other, self.bounds) is not None and (other.absent is None or other.timer == NVBENCH)
            for row in self.agreements
            for other in row.others
        )


def compare_timers(
    kernels: Iterable[Kernel], dtype: torch.dtype, device: torch.device, seed: int
) -> tuple[Bounds, tuple[Agreement, ...]]:
    """The largest real shape of each of the costliest kernels. UserError off a GPU or with fewer than KERNELS."""
    if device.type != "cuda":
        raise UserError(f"kernels cannot be timed on {device}: there is nothing to compare")
    chosen = costliest(kernels, dtype, device, seed)
    if len(chosen) < KERNELS:
        raise UserError(f"{len(chosen)} kernels have a real shape in {dtype}, {KERNELS} are needed")
    bounds = _bounds(dtype, device)
    ours = [time_kernel(kernel, case, device) for kernel, case in chosen]
    replays = [captured(partial(kernel.launch, **case.inputs)) for kernel, case in chosen]
    read = (Reading(timer="do_bench", median_ms=_do_bench(replay)) for replay in replays)
    others = zip(read, _nvbench(replays), strict=True)
    return bounds, tuple(
        Agreement(kernel=time.kernel, case=time.case, ours_ms=time.median_ms, others=readings)
        for time, readings in zip(ours, others, strict=True)
    )


def costliest(
    kernels: Iterable[Kernel], dtype: torch.dtype, device: torch.device, seed: int
) -> list[tuple[Kernel, OpCase]]:
    """The shape of most bytes of each kernel, KERNELS of them, those of most bytes first; a kernel that leaves its
    inputs as they were before one that changes them, since other timers launch again on what the last launch left."""
    found: list[tuple[bool, int, Kernel, OpCase]] = []
    for kernel in kernels:
        if kernel.bench is None or not kernel.computes(dtype):
            continue
        generator = torch.Generator(device=device).manual_seed(seed)
        cost, case = max(_costs(kernel, kernel.bench(dtype, device, generator)), key=lambda each: each[0])
        found.append((bool(kernel.mutates), -cost, kernel, case))
    return [(kernel, case) for _, _, kernel, case in sorted(found, key=lambda each: each[:2])[:KERNELS]]


def _costs(kernel: Kernel, cases: Iterator[OpCase]) -> Iterator[tuple[int, OpCase]]:
    for case in cases:
        yield kernel.cost(**case.inputs).bytes, case


def cold_ms(content: str) -> dict[str, float]:
    """Milliseconds of the one state of each benchmark in NVBench's JSON, by its name. HarnessError where one holds no
    cold GPU time."""
    return {
        benchmark["name"]: _cold_ms(benchmark["name"], benchmark["states"][0].get("summaries") or ())
        for benchmark in json.loads(content)["benchmarks"]
    }


def _cold_ms(name: str, summaries: Sequence[Any]) -> float:
    for tag in NVBENCH_TIMES:
        for summary in summaries:
            if summary["tag"] == tag:
                value = next(entry["value"] for entry in summary["data"] if entry["name"] == "value")
                return float(value) * 1e3
    raise HarnessError(f"NVBench left none of {', '.join(NVBENCH_TIMES)} of {name}: it timed nothing, or renamed it")


def _do_bench(replay: Callable[[], None]) -> float:
    import triton.testing

    return float(triton.testing.do_bench(replay, warmup=50, rep=300, return_mode="median"))


def _nvbench(replays: Sequence[Callable[[], None]]) -> list[Reading]:
    """One reading of each. NVBench takes no benchmark after it has run, so all are registered first. A graph replay
    neither allocates nor waits, so NVBench may hold the stream back until it is queued."""
    try:
        from cuda import bench
    except ImportError as error:
        return [Reading(timer=NVBENCH, absent=f"cuda-bench is not installed: {error}")] * len(replays)

    stream_at: Any = torch.cuda.ExternalStream

    def benchmark_of(replay: Callable[[], None]) -> Callable[[Any], None]:
        def benchmark(state: Any) -> None:
            def launch(at: Any) -> None:
                with torch.cuda.stream(stream_at(at.get_stream().addressof())):
                    replay()

            state.exec(launch, batched=False)

        return benchmark

    names = [f"launch_{number}" for number in range(len(replays))]
    for name, replay in zip(names, replays, strict=True):
        bench.register(benchmark_of(replay)).set_name(name)
    with tempfile.TemporaryDirectory(prefix="inference-pio-") as folder:
        out = Path(folder) / "nvbench.json"
        bench.run_all_benchmarks(["nvbench", "--devices", "0", "--json", str(out)])
        found = cold_ms(out.read_text())
    return [Reading(timer=NVBENCH, median_ms=found[name]) for name in names]


def _bounds(dtype: torch.dtype, device: torch.device) -> Bounds:
    little = torch.zeros(1, device=device)
    little.add_(1)
    rate = ceilings(device, dtype).copy_bytes_per_s
    if rate is None:
        raise HarnessError("the copy ceiling could not be measured: no bound for the write-back of the cleared cache")
    cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    return Bounds(pair_ms=_do_bench(captured(lambda: little.add_(1))), dirty_ms=cache_bytes / rate * 1e3)
