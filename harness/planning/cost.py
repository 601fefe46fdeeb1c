"""Estimate how long a case will take, alike on every machine: by committed durations, else by its size and stack.

What one machine has learned from its own runs is in `harness.planning.machine_times`; a plan is cut into shards by this
alone, because every shard must cut it alike."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.records.case import Case
from harness.records.record import INCONCLUSIVE, Record

if TYPE_CHECKING:
    from harness.planning.plan import WeightsBytes

UNTIMED = "untimed"
START_S = 8.0
"""A fresh process up to its first forward."""
PROVE_S = {"tiny": 20.0, "slice": 240.0, "full": 300.0}
PER_OPTIMIZATION_S = {"tiny": 8.0, "slice": 20.0, "full": 20.0}


def name(case: Case) -> str:
    """What cases that take equally long share: everything but the seed."""
    return f"{case.label()} {case.timing.name if case.timing.processes else UNTIMED}"


def read_durations(path: Path) -> dict[str, float]:
    """`name` of a case -> wall seconds; empty before the first one was recorded."""
    if not path.exists():
        return {}
    held = json.loads(path.read_text())
    if not isinstance(held, dict) or not all(isinstance(value, int | float) for value in held.values()):
        raise ConfigError(f"{path.name} must map names of cases to seconds: the estimate would be of something else")
    return {str(case): float(seconds) for case, seconds in held.items()}


def learned(durations: Mapping[str, float], records: Iterable[Record]) -> dict[str, float]:
    """`durations` with the wall seconds of finished cases in it: the median where a case ran more than once. A record
    with planted faults lasted longer than its case, and one that was stopped shorter."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record.kill_matrix is None and record.status not in INCONCLUSIVE | {"skipped", "timed_out", "crashed"}:
            found.setdefault(name(record.case), []).append(record.wall_s)
    known = dict(durations) | {case: round(median(seconds), 1) for case, seconds in found.items()}
    return dict(sorted(known.items()))


def write_durations(path: Path, durations: Mapping[str, float]) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(durations, indent=1) + "\n")
    os.replace(partial, path)


def estimate_s(case: Case, durations: Mapping[str, float], like: str | None = None) -> float:
    """Seconds, never more than the case's deadline. Where only the proof was recorded, timing is added to it. `like` is
    the size that a checkpoint of another size than the published one costs as much as; no duration was committed of
    such."""
    if like is not None and like != case.size:
        durations = {}
    if name(case) in durations:
        return durations[name(case)]
    proof = durations.get(f"{case.label()} {UNTIMED}") or proof_s(like or case.size, len(case.optimizations))
    return min(proof + timing_s(case.timing.processes, case.timing.limit_s), case.deadline_s)


def like(case: Case, sizes: Iterable[str], weights_bytes: WeightsBytes) -> str:
    """The size that a case costs as much as: its own, or of a checkpoint the one with weights nearest to its."""
    if case.weights is None:
        return case.size
    own = weights_bytes(case.model, case.size, case.workload.dtype, case.weights)
    published = {size: weights_bytes(case.model, size, case.workload.dtype, None) for size in sizes}
    return min(published, key=lambda size: abs(math.log(own / published[size])))


def proof_s(size: str, optimizations: int) -> float:
    """Of a stack of so many."""
    each = PER_OPTIMIZATION_S.get(size, PER_OPTIMIZATION_S["full"])
    return START_S + PROVE_S.get(size, PROVE_S["full"]) + optimizations * each


def timing_s(processes: int, limit_s: float) -> float:
    """The most that so many processes take to time a case."""
    return processes * (START_S + limit_s)
