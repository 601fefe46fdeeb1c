"""The store as series of nights, one for each case and phase that was timed beside the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

from harness.analysis.compare.arms import log_ratios_by_process
from harness.analysis.history.nightly_rules import Point, Series
from harness.records.case import gpus_first, stack_words
from harness.records.record import REFERENCE, Phase, Record

if TYPE_CHECKING:
    import pandas as pd

WHERE: dict[str, Any] = {"arm": REFERENCE, "status": "passed", "provisional": False}
"""Filters of `harness.records.store.load`: a record from a dirty tree is no point of a history."""


def series(frame: pd.DataFrame) -> tuple[Series, ...]:
    """From rows of `harness.records.store.load(folder, **WHERE)`, those on GPUs first, then by label and phase.

    A row whose blocks were all dropped has no speed-up and is no point. A record that a merged run holds, too, is one.
    """
    timed = frame[frame["speedup"].notna()].drop_duplicates(["hash", "phase"]).sort_values(["started_at", "run"])
    made = [
        (gpus_first(rows.iloc[-1]["hardware"])[0], _one(rows))
        for _, rows in timed.groupby(["key", "phase"], sort=False)
    ]
    made.sort(key=lambda found: (found[0], found[1].label, found[1].phase, found[1].key))
    return tuple(found for _, found in made)


def of_case(records: Sequence[Record]) -> tuple[Series, ...]:
    """The same from records themselves, all of one case, the oldest first; key and margin are those of the last."""
    last = records[-1]
    found = {phase: _points(records, phase) for phase in get_args(Phase)}
    return tuple(
        Series(last.key, last.case.label(), phase, last.case.timing.margin, points)
        for phase, points in found.items()
        if points
    )


def _points(records: Sequence[Record], phase: Phase) -> tuple[Point, ...]:
    timed = [(record, log_ratios_by_process(record, phase, REFERENCE)) for record in records]
    return tuple(
        Point(
            record.started_at,
            record.run,
            record.environment.commit,
            record.environment.fingerprint(),
            median(ratio for blocks in ratios.values() for ratio in blocks),
        )
        for record, ratios in timed
        if ratios and record.environment is not None
    )


def _one(rows: pd.DataFrame) -> Series:
    last = rows.iloc[-1]
    return Series(
        key=last["key"],
        label=f"{last['model']}/{last['size']} {last['stack']} {last['hardware']} {last['workload']}",
        phase=last["phase"],
        margin=float(last["margin"]),
        points=tuple(
            Point(row.started_at, row.run, row.commit, row.fingerprint, math.log(row.speedup))
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
    )
