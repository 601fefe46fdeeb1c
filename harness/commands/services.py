"""The real services of a run: devices, models, reports. Heavy modules are imported when they are needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness.build import registry
from harness.execution.session import Services
from harness.machine.installation import CHECKOUT
from harness.records.case import Plan
from harness.records.record import Record


def services(command: Sequence[str] | None = None) -> Services:
    """`command` is how this run was asked for, where it is not `python -m harness`."""
    from harness.analysis.compare.arms import arms
    from harness.machine import environment, hardware

    return Services(
        probe=hardware.probe,
        load=registry.load,
        weights_bytes=registry.weights_bytes,
        indivisible=registry.indivisible,
        check_weights=check_weights,
        capture=lambda: environment.capture(CHECKOUT, command or ["python", "-m", "harness", *sys.argv[1:]]),
        judge=arms,
        report=report,
        worker_module="harness.execution.worker",
    )


def check_weights(model: str, directory: Path) -> None:
    from harness.build import builder

    builder.check_weights(registry.load(model), directory)


def report(
    records: Sequence[Record], plan: Plan, run: str, out: Path, formats: Sequence[str], results: Path
) -> Sequence[Path]:
    from harness.records.gate_evidence import read_gate
    from harness.report import render

    names = registry.stack_names({case.model for case in plan.every()})
    return render.write(records, plan, run, out, formats, read_gate(results), names)
