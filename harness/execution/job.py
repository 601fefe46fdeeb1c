"""One case inside a Slurm job: what Slurm gave is what the case sees, and its record is left as a file."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.execution.local import LocalEngine
from harness.execution.record_factory import RecordFactory
from harness.machine.environment import capture
from harness.machine.hardware import probe
from harness.machine.installation import CHECKOUT
from harness.planning.hardware_target import HardwareTarget
from harness.records.case import Case
from harness.records.record import Record


class Lines:
    """Progress as plain lines in the job's log."""

    def begin(self, case: Case) -> None:
        self._line(case.label())

    def part(self, name: str) -> None:
        self._line(name)

    def say(self, fraction: float, text: str) -> None:
        self._line(f"{fraction:4.0%} {text}")

    def end(self, record: Record) -> None:
        self._line(record.status)

    def _line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


WAIT_S = 600.0
"""For devices that a process outside of Slurm holds: it is no part of the case's deadline, and of Slurm's limit for the
job it is a part of its own."""


def run(case: Case, stamp: RecordFactory, place: HardwareTarget, worker_module: str, out: Path, folder: Path) -> str:
    """Run the case and leave its record at `out`, whole or not at all, and a reproducer of a failure in `folder`.
    Returns its status. The record's environment is that of the node, with the command that was given elsewhere."""
    try:
        stamp = replace(stamp, environment=capture(CHECKOUT, stamp.environment.command))
        places = {case.hardware: replace(place, gpu_uuids=_given(place))}
        engine = LocalEngine(stamp, places, Lines(), folder, worker_module, wait_s=WAIT_S)
        (record,) = engine.records([case])
    except UserError as error:
        record = stamp.lost(case, str(error))
    partial = out.with_suffix(".partial")
    with partial.open("w") as file:
        file.write(record.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    partial.rename(out)
    return record.status


def _given(place: HardwareTarget) -> tuple[str, ...]:
    """The UUIDs of the GPUs that Slurm gave, by which whoever else uses this node locks them: their indices may be
    counted anew in every job. UserError where they are not what the place has."""
    if place.kind != "cuda":
        return ()
    uuids = probe().gpu_uuids if os.environ.get("CUDA_VISIBLE_DEVICES") else ()
    if len(uuids) < place.gpu_count:
        raise UserError(f"Slurm gave {len(uuids)} of the {place.gpu_count} GPU(s) that {place.name} has")
    return uuids
