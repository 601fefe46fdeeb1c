"""How long a case will take: recorded durations where there are any, an upper estimate elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from harness.case import Case
from harness.errors import ConfigError

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


def estimate_s(case: Case, durations: Mapping[str, float]) -> float:
    """Seconds, never more than the case's deadline."""
    if case.label() in durations:
        return durations[case.label()]
    prove = PROVE_S.get(case.size, PROVE_S["full"])
    prove += len(case.optimizations) * PER_OPTIMIZATION_S.get(case.size, PER_OPTIMIZATION_S["full"])
    timing = case.timing.processes * (START_S + case.timing.limit_s)
    return min(START_S + prove + timing, case.deadline_s)
