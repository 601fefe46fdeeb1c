"""How long a case will take: recorded durations where there are any, an upper estimate elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

from harness.case import Case
from harness.errors import ConfigError
from harness.record import INCONCLUSIVE, Record

START_S = 8.0
"""A fresh process up to its first forward."""
PROVE_S = {"tiny": 20.0, "slice": 240.0, "full": 300.0}
PER_OPTIMIZATION_S = {"tiny": 8.0, "slice": 20.0, "full": 20.0}


def read_durations(path: Path) -> dict[str, float]:
    """Case label -> wall seconds of its last recorded run; empty before the first one was recorded."""
    if not path.exists():
        return {}
    held = json.loads(path.read_text())
    if not isinstance(held, dict) or not all(isinstance(value, int | float) for value in held.values()):
        raise ConfigError(f"{path.name} must map case labels to seconds: the estimate would be of something else")
    return {str(label): float(seconds) for label, seconds in held.items()}


def learned(durations: Mapping[str, float], records: Iterable[Record]) -> dict[str, float]:
    """`durations` with the wall seconds of finished cases in it: the median where a case ran more than once. A record
    with planted faults lasted longer than its case, and one that was stopped shorter."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record.kill_matrix is None and record.status not in INCONCLUSIVE | {"skipped", "timed_out", "crashed"}:
            found.setdefault(record.case.label(), []).append(record.wall_s)
    known = dict(durations) | {label: round(median(seconds), 1) for label, seconds in found.items()}
    return dict(sorted(known.items()))


def write_durations(path: Path, durations: Mapping[str, float]) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(durations, indent=1) + "\n")
    os.replace(partial, path)


def estimate_s(case: Case, durations: Mapping[str, float]) -> float:
    """Seconds, never more than the case's deadline."""
    if case.label() in durations:
        return durations[case.label()]
    prove = PROVE_S.get(case.size, PROVE_S["full"])
    prove += len(case.optimizations) * PER_OPTIMIZATION_S.get(case.size, PER_OPTIMIZATION_S["full"])
    timing = case.timing.processes * (START_S + case.timing.limit_s)
    return min(START_S + prove + timing, case.deadline_s)
