"""What this device can do at best: copy, read, multiply. Measured beside the work that is held against it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness.build.dtypes import dtype_name
from harness.errors import UserError
from harness.records.record import Ceilings
from harness.timing.clock import Clock, clock_for

GPU_BYTES = 4 * 2**30
CPU_BYTES = 256 * 2**20
FEWEST_BYTES = 256 * 2**20
"""A smaller buffer would partly be read from a cache and claim a ceiling that memory cannot reach."""
CPU_RESIDENT_BYTES = (2**18, 2**20, 2**22)
"""Read from one cache or another, the fastest counts."""
GPU_RESIDENT_BYTES = (3 * 2**23,)
"""About half of the last cache of a GPU of today."""
GPU_SIDE = 8192
CPU_SIDE = 512
REPEATS = 5
SAMPLES = 7
LIMIT_S = 0.2


def ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measured bandwidths and matmul rate of `device`, the best of a few samples each: a ceiling is what was reached.

    Takes about a second on a CPU (one buffer of 256 MiB, matmuls of 512^3) and under three on a GPU (4 GiB or a quarter
    of what is free, matmuls of 8192^3 on random data). Raises UserError where a GPU has too little memory left.
    """
    clock = clock_for(device)
    copy_bytes_per_s, read_bytes_per_s, resident_bytes_per_s = _bandwidths(clock)
    return Ceilings(
        copy_bytes_per_s=copy_bytes_per_s,
        read_bytes_per_s=read_bytes_per_s,
        resident_bytes_per_s=resident_bytes_per_s,
        matmul_flops_per_s=_matmul_flops_per_s(clock, dtype),
        matmul_dtype=dtype_name(dtype),
    )


def _bandwidths(clock: Clock) -> tuple[float, float, float]:
    """Bytes per second of a copy (read and written, both counted), of a read, and of a read from a cache."""
    buffer = _buffer(clock.device)
    source, target = buffer.chunk(2)
    copy_s = _best_s(clock, lambda: _drop(target.copy_(source)))
    sizes = GPU_RESIDENT_BYTES if clock.device.type == "cuda" else CPU_RESIDENT_BYTES
    resident = max(_read_bytes_per_s(clock, buffer[: size // buffer.itemsize]) for size in sizes)
    return buffer.nbytes / copy_s, _read_bytes_per_s(clock, buffer), resident


def _read_bytes_per_s(clock: Clock, buffer: torch.Tensor) -> float:
    return buffer.nbytes / _best_s(clock, _reader(buffer))


def _buffer(device: torch.device) -> torch.Tensor:
    """Random int32: a GPU moves and adds zeros faster than it moves data."""
    wanted = CPU_BYTES
    if device.type == "cuda":
        from harness.timing.read_kernel import CHUNK_BYTES

        free, _ = torch.cuda.mem_get_info(device)
        wanted = min(GPU_BYTES, free // 4) // CHUNK_BYTES * CHUNK_BYTES
    if wanted < FEWEST_BYTES:
        raise UserError(
            f"{wanted / 2**20:.0f} MiB to measure bandwidth in, {FEWEST_BYTES / 2**20:.0f} needed: caches would answer"
        )
    return torch.empty(wanted // 4, dtype=torch.int32, device=device).random_()


def _reader(buffer: torch.Tensor) -> Callable[[], None]:
    if buffer.device.type != "cuda":
        floats = buffer.bitwise_and_(0x3FFFFFFF).view(torch.float32)
        return lambda: _drop(floats.sum())
    from harness.timing.read_kernel import CHUNK_BYTES, read_all

    sums = torch.empty(buffer.nbytes // CHUNK_BYTES, dtype=torch.int32, device=buffer.device)
    return lambda: read_all(buffer, sums)


def _matmul_flops_per_s(clock: Clock, dtype: torch.dtype) -> float:
    """On a CPU the fastest of several ways: one may emulate half precision where another does not, and a ceiling that
    honest work passes would call that work impossible."""
    if clock.device.type == "cuda":
        return _product_flops_per_s(clock, dtype, torch.mm)
    ways = ((kind, product) for kind in {dtype, torch.float32} for product in (torch.mm, torch.nn.functional.linear))
    return max(_product_flops_per_s(clock, kind, product) for kind, product in ways)


def _product_flops_per_s(clock: Clock, dtype: torch.dtype, product: Callable[..., torch.Tensor]) -> float:
    side = GPU_SIDE if clock.device.type == "cuda" else CPU_SIDE
    left, right = (torch.randn(side, side, device=clock.device).to(dtype) for _ in range(2))
    return 2.0 * side**3 / _best_s(clock, lambda: _drop(product(left, right)))


def _best_s(clock: Clock, run: Callable[[], None]) -> float:
    """Seconds of the fastest of a few calls after one warm-up; on a GPU each sample is several calls in a row.

    A call that is slow on this CPU (half-precision matmuls may be emulated) gets fewer samples.
    """
    repeats = REPEATS if clock.device.type == "cuda" else 1

    def repeated() -> None:
        for _ in range(repeats):
            run()

    end_s = clock.now_s() + LIMIT_S
    repeated()
    best_ms = clock.measure(repeated).device_ms
    for _ in range(SAMPLES - 1):
        if clock.now_s() >= end_s:
            break
        best_ms = min(best_ms, clock.measure(repeated).device_ms)
    return best_ms / repeats / 1e3


def _drop(_: torch.Tensor) -> None:
    """Take a result and drop it."""
