"""`python -m harness`: the command line on the real world. Heavy modules are imported when they are needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness import cli, registry
from harness.case import Plan
from harness.record import Record
from harness.session import ROOT, World


def report(
    records: Sequence[Record], plan: Plan, run: str, out: Path, formats: Sequence[str], results: Path
) -> Sequence[Path]:
    from harness.gate_records import read_gate
    from harness.report import render

    names = registry.stack_names({case.model for case in plan.every()})
    return render.write(records, plan, run, out, formats, read_gate(results), names)


def check_weights(model: str, directory: Path) -> None:
    from harness import build

    build.check_weights(registry.load(model), directory)


def world(command: Sequence[str] | None = None) -> World:
    """The real one; `command` is how this run was asked for, where it is not `python -m harness`."""
    from harness import environment, hardware
    from harness.compare.arms import arms

    return World(
        probe=hardware.probe,
        load=registry.load,
        weights_bytes=registry.weights_bytes,
        uneven=registry.uneven,
        check_weights=check_weights,
        capture=lambda: environment.capture(ROOT, command or ["python", "-m", "harness", *sys.argv[1:]]),
        judge=arms,
        report=report,
        worker_module="harness.worker",
    )


if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:], world))
