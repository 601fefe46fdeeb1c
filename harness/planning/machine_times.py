"""Estimate how long a case will take on this machine, by the runs that it has finished.

A case that ran before takes what it took. Another of the same model, size and hardware takes its estimate times the
median of what such cases took over theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from harness.planning import cost
from harness.planning.hardware_target import MachineFacts
from harness.records.case import Case, cpu_ranks

Kin = tuple[str, str, str, str | None]
"""Model, size, hardware, weights."""
NEWEST = 20
"""Records that an estimate looks at, at most: kernels become faster."""


@dataclass(frozen=True)
class Finished:
    """One case that ran to its end."""

    name: str
    """As `harness.planning.cost.name` gives it."""
    timed: bool
    seconds: float
    estimate_s: float
    """What is said of it on any machine."""


@dataclass(frozen=True)
class MachineTimes:
    """Finished cases by kin, the oldest first."""

    of: Mapping[Kin, tuple[Finished, ...]] = field(default_factory=dict)

    def estimate_s(self, case: Case, estimate_s: float) -> float:
        """Seconds, never more than the case's deadline. `estimate_s` is what is said of the case on any machine."""
        timed = case.timing.processes > 0
        kin = self.of.get(_kin(case), ())
        same = [one.seconds for one in kin if one.name == cost.name(case)]
        if same:
            return median(same[-NEWEST:])
        untimed = f"{case.label()} {cost.UNTIMED}"
        proofs = [one.seconds for one in kin if one.name == untimed]
        if proofs:
            timing = cost.timing_s(case.timing.processes, case.timing.limit_s)
            return min(median(proofs[-NEWEST:]) + timing, case.deadline_s)
        ratios = [one.seconds / one.estimate_s for one in kin if one.timed == timed]
        return min(estimate_s * median(ratios[-NEWEST:]), case.deadline_s) if ratios else estimate_s


NOTHING = MachineTimes()


def read(out: Path, likes: Mapping[Case, str], durations: Mapping[str, float], machine: MachineFacts) -> MachineTimes:
    """What is on record under `out` of the kin of these cases. `likes` are the sizes that they cost as much as, and
    `durations` the committed ones.

    A CPU's records count where it has the same name and as many cores, a GPU's where its hardware has the same name.
    Raises what `harness.records.store.load` does.
    """
    if not likes or not any(out.rglob("*.jsonl")):
        return NOTHING
    from harness.records import store

    kin = {_kin(case): like for case, like in likes.items()}
    models, sizes, hardware, _ = zip(*kin, strict=True)
    where = {"model": set(models), "size": set(sizes), "hardware": set(hardware), "status": "passed"}
    frame = store.load(out, **where, own_proof=True, planted=False)
    here = ~frame["hardware"].map(lambda name: cpu_ranks(name) > 0).astype(bool)
    here |= (frame["cpu"] == machine.cpu) & (frame["cores"] == machine.cores)
    found: dict[Kin, list[Finished]] = {}
    for row in frame[here].drop_duplicates("hash").sort_values("started_at").itertuples():
        weights = row.weights if isinstance(row.weights, str) else None
        mine = (row.model, row.size, row.hardware, weights)
        if mine in kin:
            found.setdefault(mine, []).append(_finished(row, kin[mine], durations))
    return MachineTimes({mine: tuple(ended) for mine, ended in found.items()})


def _finished(row: Any, like: str, durations: Mapping[str, float]) -> Finished:
    timing = row.timing if row.asked_processes else cost.UNTIMED
    name = f"{row.model}/{row.size} {row.stack} {row.hardware} {row.workload} {timing}"
    stack = 0 if row.stack == "none" else row.stack.count("+") + 1
    estimate_s = cost.proof_s(like, stack) + cost.timing_s(row.asked_processes, row.limit_s)
    known = durations.get(name) if like == row.size else None
    return Finished(name, row.asked_processes > 0, row.wall_s, known or estimate_s)


def _kin(case: Case) -> Kin:
    return case.model, case.size, case.hardware, case.weights
