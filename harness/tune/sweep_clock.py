"""Device time of a short kernel, the way decoding runs it: back to back in a CUDA graph, every call on other memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
import triton
import triton.language as tl

ROTATION_BYTES = 240 << 20
"""Memory that successive calls cycle through: four times the L2 cache of an H200, so that nothing is found there."""
GRAPH_BYTES = 1 << 30
MAX_CALLS = 64
REPLAYS = 12


def copies(call_bytes: int) -> int:
    """How many sets of inputs of one call fill the rotation."""
    return max(2, -(-ROTATION_BYTES // call_bytes))


def graph_us(call: Callable[[int], object], sets: int, call_bytes: int) -> float:
    """Microseconds per call, the median over replays. `call(i)` launches on the i-th set of inputs."""
    calls = max(2, min(max(sets, MAX_CALLS), GRAPH_BYTES // call_bytes))
    call(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(calls):
            call(index % sets)
    for _ in range(3):
        graph.replay()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2 * REPLAYS)]
    for begin, end in zip(events[::2], events[1::2], strict=True):
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    times: list[float] = [begin.elapsed_time(end) for begin, end in zip(events[::2], events[1::2], strict=True)]
    return statistics.median(times) * 1000 / calls


@triton.jit
def _read_kernel(x_ptr, out_ptr, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * STEPS * BLOCK
    total = tl.zeros((BLOCK,), tl.float32)
    for step in tl.static_range(STEPS):
        total += tl.load(x_ptr + start + step * BLOCK + tl.arange(0, BLOCK), eviction_policy="evict_first")
    tl.store(out_ptr + tl.program_id(0), tl.sum(total, 0))


def read_ceiling_bytes_per_s() -> float:
    """The fastest this device reads memory that is not in its cache: a sum over 4 GiB."""
    steps, block = 8, 2048
    x = torch.ones(1 << 30, dtype=torch.float32, device="cuda")
    programs = x.numel() // (steps * block)
    out = torch.empty(programs, dtype=torch.float32, device="cuda")
    size = x.numel() * 4
    us = graph_us(lambda _: _read_kernel[(programs,)](x, out, STEPS=steps, BLOCK=block, num_warps=8), 1, size)
    return size / us * 1e6
