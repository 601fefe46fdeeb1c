"""One kernel at one real shape, no host in the time: caches cold, interleaved with its eager twin, and then hot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import torch

from harness.analysis.stats import Interval, median_interval
from harness.errors import UserError
from harness.records.record import KernelTime
from harness.spec.kernel import Kernel, OpCase
from harness.timing.buffers import Inputs, copies_of, restore, tensors
from harness.timing.same_work import Loop, require_agreement, require_replayed

SAMPLES = 31
WARM_UPS = 3
COLD_FACTOR = 3
"""Read this many times the L2 cache, and what was in it is gone."""
FLUSHES = 8
FEWEST_COPIES = 4
MOST_COPIES = 256
"""Enough launches of a two-microsecond kernel to fill half a millisecond."""

Sample = Callable[[Callable[[], object], Callable[[], None]], float]
"""Milliseconds of the second call, which follows the first without a gap."""


def time_kernels(
    kernels: Iterable[Kernel], dtype: torch.dtype, device: torch.device, seed: int
) -> tuple[KernelTime, ...]:
    """Every real shape of every kernel that has a speed of its own (`Kernel.bench`)."""
    times: list[KernelTime] = []
    for kernel in kernels:
        if kernel.bench is None or not kernel.computes(dtype):
            continue
        generator = torch.Generator(device=device).manual_seed(seed)
        times.extend(time_kernel(kernel, case, device) for case in kernel.bench(dtype, device, generator))
    return tuple(times)


def time_kernel(kernel: Kernel, case: OpCase, device: torch.device) -> KernelTime:
    """Median device time of one launch with its 99 % interval, and of its eager twin, sampled in turn.

    Each sample reads a buffer of three times the L2 cache, then launches once on each of several copies of the inputs,
    so every launch finds its inputs cold; then come samples of as many launches on one copy, which find what the caches
    kept of it. The launches come from a CUDA graph; a function that cannot be captured is
    launched from the host, and the time says so. Raises KernelDisagreement when launch and twin differ on these
    buffers, before the samples or, on rewritten inputs, after them; UserError off a GPU: interpreter time is not speed.
    """
    if device.type != "cuda":
        raise UserError(f"kernel {kernel.name} cannot be timed on {device}: interpreted time says nothing of its speed")
    subject = f"kernel {kernel.name}, case {case.name}"
    copies = copies_of(case.inputs, _copies_for(case.inputs, device))
    for inputs in (copies[0], copies[-1]):
        require_agreement(kernel, inputs, subject)
    sample, flush = _sampler(device), _flush(device)
    fast = _looped(kernel.launch, kernel, case.inputs, copies)
    twin = _looped(kernel.eager, kernel, case.inputs, copies)
    samples: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(WARM_UPS + SAMPLES):
        for is_fast in (True, False) if turn % 2 else (False, True):
            loop = fast if is_fast else twin
            loop.restore()
            elapsed_ms = sample(flush, loop.replay)
            if turn >= WARM_UPS:
                samples[is_fast].append(elapsed_ms / len(copies))
    hot = _hot(kernel, case.inputs, copies[0], len(copies), sample)
    require_replayed(kernel, fast, copies[-1], subject)
    found = median_interval(samples[True])
    cost = kernel.cost(**case.inputs)
    return KernelTime(
        kernel=kernel.name,
        case=case.name,
        median_ms=found.center,
        low_ms=found.low,
        high_ms=found.high,
        n=found.n,
        hot_ms=hot.center,
        hot_low_ms=hot.low,
        hot_high_ms=hot.high,
        twin_ms=median(samples[False]),
        bytes=cost.bytes,
        flops=cost.flops,
        written_bytes=sum(tensor.nbytes for tensor in fast.last.values()),
        from_host=fast.from_host,
        twin_from_host=twin.from_host,
    )


def _hot(kernel: Kernel, pristine: Mapping[str, Any], inputs: Inputs, launches: int, sample: Sample) -> Interval:
    """Of one launch among many on the same inputs. What one writes in place the next reads: their values drift, their
    work does not."""
    loop = _looped(kernel.launch, kernel, pristine, (inputs,) * launches)
    taken = []
    for _ in range(WARM_UPS + SAMPLES):
        loop.restore()
        taken.append(sample(loop.replay, loop.replay) / launches)
    return median_interval(taken[WARM_UPS:])


def copies_needed(input_bytes: int, cache_bytes: int, free_bytes: int) -> int:
    """How many copies of the inputs to launch on: enough to overflow the cache, within a quarter of free memory."""
    wanted = math.ceil(COLD_FACTOR * cache_bytes / max(input_bytes, 1))
    room = free_bytes // 4 // max(input_bytes, 1)
    return max(1, min(max(FEWEST_COPIES, wanted), MOST_COPIES, room))


def _copies_for(inputs: Mapping[str, Any], device: torch.device) -> int:
    input_bytes = sum(tensor.nbytes for value in inputs.values() for tensor in tensors(value))
    cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    return copies_needed(input_bytes, cache_bytes, torch.cuda.mem_get_info(device)[0])


def _flush(device: torch.device) -> Callable[[], None]:
    """Takes the inputs out of the L2 cache.

    It only reads, so it leaves no dirty lines to be written back on the clock, and it lasts long enough for the host to
    have queued the whole replay before the start event comes up.
    """
    cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    filler = torch.ones(COLD_FACTOR * cache_bytes // 4, dtype=torch.float32, device=device)
    total = torch.empty((), device=device)

    def flush() -> None:
        for _ in range(FLUSHES):
            torch.sum(filler, dim=0, out=total)

    return flush


def _sampler(device: torch.device) -> Sample:
    event: Any = torch.cuda.Event
    start, stop = event(enable_timing=True), event(enable_timing=True)

    def sample(before: Callable[[], object], replay: Callable[[], None]) -> float:
        torch.cuda.synchronize(device)
        before()
        start.record()
        replay()
        stop.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(stop))

    return sample


def _looped(
    function: Callable[..., Mapping[str, torch.Tensor]],
    kernel: Kernel,
    pristine: Mapping[str, Any],
    copies: Sequence[Inputs],
) -> Loop:
    last: dict[str, torch.Tensor] = {}
    apart = tuple({id(inputs): inputs for inputs in copies}.values())

    def launch() -> None:
        for inputs in copies[:-1]:
            function(**inputs)
        last.update(function(**copies[-1]))

    def put_back() -> None:
        restore(kernel.mutates, pristine, apart)

    launch()
    put_back()
    try:
        return Loop(last, captured(launch), put_back, None)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return Loop(last, launch, put_back, str(error).partition("\n")[0])


def captured(launch: Callable[[], object]) -> Callable[[], None]:
    """A replay of `launch` from a CUDA graph. Raises RuntimeError for what no graph can hold."""
    graph = torch.cuda.CUDAGraph()
    # Another thread may ask after events of its own meanwhile, as NCCL's watchdog does.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        launch()
    return graph.replay
