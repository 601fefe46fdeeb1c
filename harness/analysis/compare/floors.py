"""The least time that work can take at the ceilings measured in the same run: pure functions of a record."""

from __future__ import annotations

from typing import Literal

from harness.records.record import Ceilings, KernelTime, Phase, Record

FLOOR_LIMIT = 0.95
RESIDENT_BYTES = 256 * 2**20
"""Less traffic than this may be served by a cache, which the measured memory ceiling says nothing about: no memory
floor is claimed for it."""
SHORT_FLOPS = 10**9
"""Fewer operations than this last well under a second anywhere; the matmul ceiling of a CPU, which other work shares,
moves by more than that from one moment to the next: no compute floor is claimed for them."""

EXPLAINED = 0.5
"""Of what small work takes at the ceilings, which are less certain for it: a shorter time is that of other work."""

Bound = Literal["memory", "compute"]
Floor = tuple[float | None, Bound | None]
"""Milliseconds, and which ceiling sets them; nothing where no floor is claimed."""


def of_phase(record: Record, phase: Phase) -> Floor:
    """Of one call of the phase."""
    work = next((work for work in record.work if work.phase == phase), None)
    if work is None:
        return None, None
    return _longest(record, work.bytes if work.bytes >= RESIDENT_BYTES else 0, work.flops)


def of_kernel(record: Record, kernel: KernelTime) -> Floor:
    """Of one launch with its inputs cold, so that all it reads comes from memory; what it writes may stay in a cache.
    Nothing where the record does not tell the two apart."""
    if kernel.written_bytes is None:
        return None, None
    return _longest(record, max(0, kernel.bytes - kernel.written_bytes), kernel.flops)


def below(time_ms: float, floor_ms: float | None) -> tuple[str, ...]:
    """Why a time is no time of the whole work; () where it may be."""
    if floor_ms is None or time_ms >= FLOOR_LIMIT * floor_ms:
        return ()
    return (f"{time_ms:.4g} ms is under {FLOOR_LIMIT} of the physical floor {floor_ms:.4g} ms: work was left out",)


def unexplained(record: Record, phase: Phase, time_ms: float) -> tuple[str, ...]:
    """Why a call of the phase is shorter than its work can explain, where that is too little to claim a floor for; ()
    where the work explains it, or a floor is claimed."""
    work = next((work for work in record.work if work.phase == phase), None)
    floor_ms, _ = of_phase(record, phase)
    if work is None or floor_ms is not None:
        return ()
    ceilings = record.ceilings or Ceilings()
    read_s = work.bytes / ceilings.resident_bytes_per_s if ceilings.resident_bytes_per_s else 0.0
    comparable = ceilings.matmul_dtype == record.case.workload.dtype
    product_s = work.flops / ceilings.matmul_flops_per_s if ceilings.matmul_flops_per_s and comparable else 0.0
    least_ms = max(read_s, product_s) * 1e3
    if time_ms >= EXPLAINED * least_ms:
        return ()
    return (
        f"{time_ms:.4g} ms is under {EXPLAINED} of the {least_ms:.4g} ms that its work takes at the measured ceilings, "
        "all of it in a cache: it was not computed",
    )


def _longest(record: Record, moved_bytes: int, flops: int) -> Floor:
    """A matmul ceiling counts only in the workload's own dtype: one in another dtype is no limit."""
    ceilings = record.ceilings or Ceilings()
    floors: list[tuple[float, Bound]] = []
    if ceilings.read_bytes_per_s and moved_bytes:
        floors.append((moved_bytes / ceilings.read_bytes_per_s * 1e3, "memory"))
    comparable = ceilings.matmul_dtype == record.case.workload.dtype and flops >= SHORT_FLOPS
    if ceilings.matmul_flops_per_s and comparable:
        floors.append((flops / ceilings.matmul_flops_per_s * 1e3, "compute"))
    return max(floors) if floors else (None, None)
