"""`python -m harness report RUN.jsonl`: the report of a run file; with `dashboard=true` the site of all."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from harness.commands.options import RECORDS, Option, Usage, flag
from harness.errors import UserError

USAGE = Usage(
    "report",
    """python -m harness report RUN.jsonl [reports=FOLDER] [format=html,markdown]
python -m harness report dashboard=true [out=RECORDS] [reports=FOLDER]

The report of a run file, or the site of every run of a folder, and the paths of what was written.
Exit code 2: the file cannot be read or trusted, or the report cannot be written.""",
    (
        Option("reports", "folder to write into (reports; the site's: reports/dashboard)", None, Path),
        Option("out", "folder of records, to tell what is known of the gate", RECORDS, Path),
        Option("dashboard", "the site of every run under the folder of records", False, flag),
        Option("format", "html, markdown or both", "html,markdown"),
    ),
    words=range(2),
)
help_text = USAGE.help


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    asked = USAGE.read(arguments)
    if asked["dashboard"]:
        if asked.words:
            raise UserError(f"report: the site is of a folder of records: out={asked.words[0]}")
        print(dashboard(asked["out"], asked["reports"] or Path("reports/dashboard")), file=out)
        return 0
    if not asked.words:
        raise UserError("report: no run file given: name one under benchmark_results, or add dashboard=true")
    formats = asked["format"].split(",")
    for path in report(Path(asked.words[0]), asked["reports"] or Path("reports"), formats, asked["out"]):
        print(path, file=out)
    return 0


def report(path: Path, out: Path, formats: Sequence[str], records: Path) -> list[Path]:
    """Render a run file; its name without the suffix is the run's."""
    from harness.build import registry
    from harness.records.gate_evidence import read_gate
    from harness.records.run_file import read_file
    from harness.report import render

    if not path.is_file():
        raise UserError(f"no run file {path}: give one under benchmark_results")
    found = read_file(path)
    names = registry.stack_names({case.model for case in found.plan.every()})
    return render.write(found.records, found.plan, found.run, out, formats, read_gate(records), names)


def dashboard(results: Path, out: Path) -> Path:
    """Write the site of all run files under `results`; gives its first page."""
    from datetime import date

    from harness.build import registry
    from harness.report.dashboard import site

    return site.write(results, out, date.today(), registry.stack_names(registry.names()))[0]
