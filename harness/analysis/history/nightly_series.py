"""The store as series of nights, one for each phase of each case, however it was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

from harness.analysis.compare.anchor import speeds
from harness.analysis.history.nightly_rules import Point, Series, Unit
from harness.records.case import cpu_ranks, stack_words
from harness.records.case_identity import CaseIdentity
from harness.records.phase_machine import machine
from harness.records.record import CANDIDATE, REFERENCE, Phase, Record
from harness.records.timing_protocol import protocol

if TYPE_CHECKING:
    import pandas as pd

WHERE: dict[str, Any] = {"arm": (CANDIDATE, REFERENCE), "status": "passed", "provisional": False}
"""Filters of `harness.records.store.load`: a record from a dirty tree is no point of a history."""


def series(frame: pd.DataFrame) -> tuple[Series, ...]:
    """From rows of `harness.records.store.load(folder, **WHERE)`, those on GPUs first, then by label and phase.

    On a GPU a point is the candidate's own time, on a CPU its speed-up over the reference. A row whose blocks were all
    dropped is no point. A record that a merged run holds, too, is one.
    """
    on_cpu = frame["hardware"].map(lambda name: cpu_ranks(name) > 0).astype(bool)
    measured = frame["arm"] == CANDIDATE
    measured = measured.where(~on_cpu, frame["arm"] == REFERENCE)
    timed = frame[measured & frame["speedup"].notna()]
    timed = timed.drop_duplicates(["hash", "phase"]).sort_values(["started_at", "run"])
    made = [_one(rows) for _, rows in timed.groupby(["identity", "phase"], sort=False)]
    return tuple(sorted(made, key=lambda found: (found.unit == "x", found.label, found.phase, found.key)))


def identities(frame: pd.DataFrame) -> Mapping[str, str]:
    """Key of an exact question -> key of its case."""
    return dict(zip(frame["key"], frame["identity"], strict=True))


def of_case(records: Sequence[Record]) -> tuple[Series, ...]:
    """The same from records themselves, all of one case, the oldest first; key and margin are those of the last."""
    last = records[-1]
    found = {phase: _points(records, phase) for phase in get_args(Phase)}
    return tuple(
        Series(
            CaseIdentity.of(last).key,
            last.case.label(),
            phase,
            last.case.timing.margin,
            points,
            unit=_unit(last.case.hardware),
        )
        for phase, points in found.items()
        if points
    )


def _points(records: Sequence[Record], phase: Phase) -> tuple[Point, ...]:
    timed = [(record, machine(record, phase), speeds(record, phase)) for record in records]
    return tuple(
        Point(
            record.started_at,
            record.run,
            record.environment.commit,
            fingerprint,
            median(speed for blocks in found.values() for speed in blocks),
            protocol(record),
        )
        for record, fingerprint, found in timed
        if found and record.environment is not None and fingerprint is not None
    )


def _unit(hardware: str) -> Unit:
    return "x" if cpu_ranks(hardware) else "/s"


def _one(rows: pd.DataFrame) -> Series:
    last = rows.iloc[-1]
    unit = _unit(last["hardware"])
    return Series(
        key=last["identity"],
        label=f"{last['model']}/{last['size']} {last['stack']} {last['hardware']} {last['workload']}",
        phase=last["phase"],
        margin=float(last["margin"]),
        points=tuple(
            Point(
                row.started_at,
                row.run,
                row.commit,
                row.fingerprint,
                math.log(row.speedup if unit == "x" else 1e3 / row.median_ms),
                row.protocol,
            )
            for row in rows.itertuples()
        ),
        ask=(
            f"+model={last['model']}",
            f"size={last['size']}",
            *stack_words(last["stack"]),
            f"workload={last['workload']}",
            f"hardware={last['hardware']}",
            *((f"weights={last['weights']}",) if isinstance(last["weights"], str) else ()),
            "timing=quick",
        ),
        unit=unit,
    )
