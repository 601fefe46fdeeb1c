"""One case inside a Slurm job: what Slurm gave is what the case sees, and its record is left as a file."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from harness.case import Case
from harness.engines.local import ROOT, LocalEngine
from harness.engines.stamp import Stamp
from harness.environment import capture
from harness.place import Place
from harness.record import Record


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


def run(case: Case, stamp: Stamp, place: Place, worker_module: str, out: Path, folder: Path) -> str:
    """Run the case and leave its record at `out`, whole or not at all, and a reproducer of a failure in `folder`.
    Returns its status. The record's environment is that of the node, with the command that was given elsewhere."""
    stamp = replace(stamp, environment=capture(ROOT, stamp.environment.command))
    given = tuple(filter(None, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")))
    if place.kind == "cuda" and len(given) < place.gpu_count:
        record = stamp.lost(case, f"Slurm gave {len(given)} of the {place.gpu_count} GPU(s) that {place.name} has")
    else:
        engine = LocalEngine(stamp, {case.hardware: replace(place, gpu_uuids=given)}, Lines(), folder, worker_module)
        (record,) = engine.records([case])
    partial = out.with_suffix(".partial")
    with partial.open("w") as file:
        file.write(record.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    partial.rename(out)
    return record.status
