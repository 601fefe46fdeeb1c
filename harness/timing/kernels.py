"""One kernel at one real shape: cold caches, no host in the time, interleaved with its eager twin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from harness.errors import HarnessError, UserError
from harness.record import KernelTime
from harness.spec import Kernel, OpCase
from harness.timing.stats import median_interval

SAMPLES = 31
WARM_UPS = 3
COLD_FACTOR = 3
"""Read this many times the L2 cache, and what was in it is gone."""
FLUSHES = 8
FEWEST_COPIES = 4
MOST_COPIES = 256
"""Enough launches of a two-microsecond kernel to fill half a millisecond."""

AGREEMENT = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Largest relative Frobenius error of kernel against twin, by output dtype: the rounding of a few operations in a row.
Parity judges the kernel; this only makes sure that the buffers being timed hold the work that parity judged."""

Inputs = dict[str, Any]


class KernelDisagreement(HarnessError):
    """A kernel whose result on the timed buffers is not its twin's: its speed would be that of other work."""


@dataclass(frozen=True)
class _Loop:
    """Launches a function once on each copy of its inputs."""

    last: Mapping[str, torch.Tensor]
    """What the launch on the last copy wrote, wherever the next replay writes it again."""
    replay: Callable[[], None]
    restore: Callable[[], None]
    from_host: str | None
    """Why no graph holds the launches, where none does."""


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
    so every launch finds its inputs cold. The launches come from a CUDA graph; a function that cannot be captured is
    launched from the host, and the time says so. Raises KernelDisagreement when launch and twin differ on these
    buffers, before the samples or, on rewritten inputs, after them; UserError off a GPU: interpreter time is not speed.
    """
    if device.type != "cuda":
        raise UserError(f"kernel {kernel.name} cannot be timed on {device}: interpreted time says nothing of its speed")
    subject = f"kernel {kernel.name}, case {case.name}"
    copies = copies_of(case.inputs, _copies_for(case.inputs, device))
    for inputs in (copies[0], copies[-1]):
        require_agreement(kernel, inputs, subject)
    sample = _sampler(device)
    fast = _looped(kernel.launch, kernel, case.inputs, copies)
    twin = _looped(kernel.twin, kernel, case.inputs, copies)
    samples: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(WARM_UPS + SAMPLES):
        for is_fast in (True, False) if turn % 2 else (False, True):
            loop = fast if is_fast else twin
            loop.restore()
            elapsed_ms = sample(loop.replay)
            if turn >= WARM_UPS:
                samples[is_fast].append(elapsed_ms / len(copies))
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
        twin_ms=median(samples[False]),
        bytes=cost.bytes,
        flops=cost.flops,
        from_host=fast.from_host,
        twin_from_host=twin.from_host,
    )


def copies_needed(input_bytes: int, cache_bytes: int, free_bytes: int) -> int:
    """How many copies of the inputs to launch on: enough to overflow the cache, within a quarter of free memory."""
    wanted = math.ceil(COLD_FACTOR * cache_bytes / max(input_bytes, 1))
    room = free_bytes // 4 // max(input_bytes, 1)
    return max(1, min(max(FEWEST_COPIES, wanted), MOST_COPIES, room))


def copies_of(inputs: Mapping[str, Any], count: int) -> tuple[Inputs, ...]:
    return tuple({name: _copy(value) for name, value in inputs.items()} for _ in range(count))


def require_agreement(kernel: Kernel, inputs: Inputs, subject: str) -> None:
    """Launch on `inputs` themselves, run the twin on what they held before, and compare every output."""
    pristine = copies_of(inputs, 1)[0]
    outputs = dict(kernel.launch(**inputs))
    _require_equal(kernel, outputs, kernel.twin(**copies_of(pristine, 1)[0]), subject)
    _restore(kernel.mutates, pristine, (inputs,))


def require_replayed(kernel: Kernel, loop: _Loop, inputs: Inputs, subject: str) -> None:
    """Replay what was timed once more, with other values in the last copy of its `inputs`, and compare what it wrote
    there: a replay that writes nothing, or what it wrote before, has no time."""
    loop.restore()
    _rewrite(inputs)
    expected = kernel.twin(**copies_of(inputs, 1)[0])
    loop.replay()
    _require_equal(kernel, loop.last, expected, f"{subject}, after timing and on rewritten inputs")


def _rewrite(inputs: Inputs) -> None:
    """Move all values of the last axis on by one place: they stay as likely as they were. Indices and packed weights
    are left as they are."""
    for value in inputs.values():
        for tensor in _tensors(value):
            if tensor.dtype in AGREEMENT and tensor.dim():
                tensor.copy_(tensor.roll(1, -1))


def _require_equal(
    kernel: Kernel, outputs: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], subject: str
) -> None:
    if outputs.keys() != expected.keys():
        raise KernelDisagreement(f"{subject}: outputs {sorted(outputs)}, the twin gives {sorted(expected)}")
    for name, twin in expected.items():
        error, limit = _difference(outputs[name], twin), agreement_limit(kernel, name, twin.dtype)
        if not error <= limit:
            raise KernelDisagreement(
                f"{subject}: output {name} differs from the twin's by {error:.3g} (at most {limit:.3g}): a time would "
                "be that of other work"
            )


def agreement_limit(kernel: Kernel, output: str, dtype: torch.dtype) -> float:
    """0 for what is only moved or is not a wide float, else the rounding bound of its dtype."""
    return 0.0 if output in kernel.copies else AGREEMENT.get(dtype, 0.0)


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative Frobenius error; infinite where shape or dtype differ."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return math.inf
    if torch.equal(found, expected):
        return 0.0
    wide = expected.double()
    return float((found.double() - wide).norm() / wide.norm().clamp_min(torch.finfo(torch.float64).tiny))


def _copies_for(inputs: Mapping[str, Any], device: torch.device) -> int:
    input_bytes = sum(tensor.nbytes for value in inputs.values() for tensor in _tensors(value))
    cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    return copies_needed(input_bytes, cache_bytes, torch.cuda.mem_get_info(device)[0])


def _sampler(device: torch.device) -> Callable[[Callable[[], None]], float]:
    """Milliseconds of a replay behind a flush of the L2 cache.

    The flush only reads, so it leaves no dirty lines to be written back on the clock, and it lasts long enough for the
    host to have queued the whole replay before the start event comes up.
    """
    cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    filler = torch.ones(COLD_FACTOR * cache_bytes // 4, dtype=torch.float32, device=device)
    total = torch.empty((), device=device)
    event: Any = torch.cuda.Event
    start, stop = event(enable_timing=True), event(enable_timing=True)

    def sample(replay: Callable[[], None]) -> float:
        torch.cuda.synchronize(device)
        for _ in range(FLUSHES):
            torch.sum(filler, dim=0, out=total)
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
) -> _Loop:
    last: dict[str, torch.Tensor] = {}

    def launch() -> None:
        for inputs in copies[:-1]:
            function(**inputs)
        last.update(function(**copies[-1]))

    def restore() -> None:
        _restore(kernel.mutates, pristine, copies)

    launch()
    restore()
    try:
        return _Loop(last, captured(launch), restore, None)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return _Loop(last, launch, restore, str(error).partition("\n")[0])


def captured(launch: Callable[[], object]) -> Callable[[], None]:
    """A replay of `launch` from a CUDA graph. Raises RuntimeError for what no graph can hold."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    return graph.replay


def _restore(mutated: Sequence[str], pristine: Mapping[str, Any], copies: Sequence[Inputs]) -> None:
    for inputs in copies:
        for name in mutated:
            for target, source in zip(_tensors(inputs[name]), _tensors(pristine[name]), strict=True):
                target.copy_(source)


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return type(value)(_copy(item) for item in value) if type(value) in (list, tuple) else value


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for item in value for tensor in _tensors(item)] if type(value) in (list, tuple) else []
