"""Records as flat rows, one per phase and arm: the columns that the store is asked by. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import TypedDict

from harness.records.case_identity import CaseIdentity
from harness.records.phase_machine import machine
from harness.records.record import CANDIDATE, Phase, Record
from harness.records.timing_protocol import protocol

Times = Mapping[tuple[int, int], float]


class Row(TypedDict):
    """A record, or one phase and arm of it. Times are milliseconds (`_ms`) and seconds (`_s`), memory is bytes."""

    run: str
    hash: str
    """Of the record's line."""
    key: str
    """Of the exact question."""
    identity: str
    """Key of the case's identity, which records of other protocols, arms and seeds share."""
    model: str
    size: str
    stack: str
    hardware: str
    workload: str
    batch: int
    """Sequences."""
    prompt_tokens: int
    new_tokens: int
    dtype: str
    weights: str | None
    """Folder of the checkpoint; None where they are random."""
    timing: str
    """Its name; whether anything was timed, `processes` and `phase` tell."""
    protocol: str
    """The timing, and what its samples were fed."""
    asked_processes: int
    """Fresh processes that were to time it; 0 proves without timing."""
    limit_s: float
    """Of the timing of each."""
    own_proof: bool
    """It was proven in its own run, not in an earlier one."""
    planted: bool
    """Faults were planted after it, within `wall_s`."""
    cpu: str | None
    cores: int | None
    """Those that the run might use."""
    margin: float
    """Relative: a change smaller than this is none."""
    status: str
    provisional: bool
    started_at: str
    wall_s: float
    fingerprint: str | None
    """Of what the phase depends on, of the whole machine where nothing was timed: rows of different ones have no common
    unit of time."""
    commit: str | None
    checks: int
    worst_usage: float | None
    """Share of the limit that the worst check used."""
    phase: Phase | None
    """None when nothing was timed; then the arm and what follows are empty too."""
    arm: str | None
    processes: int
    samples: int
    """Those of blocks that were not dropped."""
    median_ms: float | None
    speedup: float | None
    """The median over blocks of this arm's time over the candidate's. For intervals read the record."""
    peak_memory_bytes: int | None


def rows(record: Record, digest: str) -> list[Row]:
    """One row per phase and arm with samples, or a single one for a record without."""
    common = _common(record, digest)
    peaks: dict[str, int] = {}
    for arm in record.arms:
        peaks[arm.name] = max(peaks.get(arm.name, 0), arm.peak_memory_bytes)
    kept = _kept(record)
    timed: list[Row] = [
        {
            **common,
            "fingerprint": machine(record, phase),
            **_timed(phase, arm, times, kept.get((phase, CANDIDATE), {}), peaks.get(arm)),
        }
        for (phase, arm), times in kept.items()
    ]
    return timed or [common]


def _common(record: Record, digest: str) -> Row:
    case, shape, checks = record.case, record.case.workload, record.parity.checks if record.parity else ()
    return {
        "run": record.run,
        "hash": digest,
        "key": record.key,
        "identity": CaseIdentity.of(record).key,
        "model": case.model,
        "size": case.size,
        "stack": case.stack(),
        "hardware": case.hardware,
        "workload": shape.name,
        "batch": shape.batch,
        "prompt_tokens": shape.prompt_tokens,
        "new_tokens": shape.new_tokens,
        "dtype": shape.dtype,
        "weights": case.weights,
        "timing": case.timing.name,
        "protocol": protocol(record),
        "asked_processes": case.timing.processes,
        "limit_s": case.timing.limit_s,
        "own_proof": record.proof is None,
        "planted": record.kill_matrix is not None,
        "cpu": record.environment.cpu if record.environment else None,
        "cores": record.environment.cpu_cores if record.environment else None,
        "margin": case.timing.margin,
        "status": record.status,
        "provisional": record.provisional,
        "started_at": record.started_at,
        "wall_s": record.wall_s,
        "fingerprint": record.environment.fingerprint() if record.environment else None,
        "commit": record.environment.commit if record.environment else None,
        "checks": len(checks),
        "worst_usage": max((check.usage for check in checks), default=None),
        "phase": None,
        "arm": None,
        "processes": 0,
        "samples": 0,
        "median_ms": None,
        "speedup": None,
        "peak_memory_bytes": None,
    }


class _Timed(TypedDict):
    phase: Phase
    arm: str
    processes: int
    samples: int
    median_ms: float | None
    speedup: float | None
    peak_memory_bytes: int | None


def _timed(phase: Phase, arm: str, times: Times, candidate: Times, peak_memory_bytes: int | None) -> _Timed:
    ratios = [math.log(ms / candidate[at]) for at, ms in times.items() if at in candidate]
    return {
        "phase": phase,
        "arm": arm,
        "processes": len({process for process, _ in times}),
        "samples": len(times),
        "median_ms": statistics.median(times.values()) if times else None,
        "speedup": math.exp(statistics.median(ratios)) if ratios else None,
        "peak_memory_bytes": peak_memory_bytes,
    }


def _kept(record: Record) -> dict[tuple[Phase, str], dict[tuple[int, int], float]]:
    """Milliseconds by (process, block), of each phase and arm, without dropped blocks."""
    dropped = {(block.phase, block.process, block.index) for block in record.blocks if block.dropped}
    kept: dict[tuple[Phase, str], dict[tuple[int, int], float]] = {}
    for series in record.series:
        times = kept.setdefault((series.phase, series.arm), {})
        for block, ms in zip(series.blocks, series.samples_ms, strict=True):
            if (series.phase, series.process, block) not in dropped:
                times[series.process, block] = ms
    return kept
