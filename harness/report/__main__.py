"""`python -m harness.report RUN.jsonl`: the report of a run file; with `--dashboard` the site of all."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report and print its paths. 2 when the file cannot be read or trusted, or the report not be written."""
    parser = argparse.ArgumentParser(prog="python -m harness.report", description="The report of a run file.")
    given = "a run file, benchmark_results/<hardware>/<run>.jsonl; with --dashboard the folder (benchmark_results)"
    parser.add_argument("run", type=Path, nargs="?", help=given)
    parser.add_argument("--out", type=Path, help="folder to write <run>/ into (reports); with --dashboard the site's")
    beside = "folder of records, to tell what is known of the gate (benchmark_results)"
    parser.add_argument("--records", type=Path, default=Path("benchmark_results"), help=beside)
    parser.add_argument("--dashboard", action="store_true", help="the site of every run under a folder, into --out")
    parser.add_argument("--format", default="html,markdown", help="html, markdown or both (html,markdown)")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.dashboard:
            print(dashboard(chosen.run or Path("benchmark_results"), chosen.out or Path("reports/dashboard")))
            return 0
        if chosen.run is None:
            raise UserError("no run file given: name one under benchmark_results, or add --dashboard")
        for path in report(chosen.run, chosen.out or Path("reports"), chosen.format.split(","), chosen.records):
            print(path)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def report(path: Path, out: Path, formats: Sequence[str], records: Path) -> list[Path]:
    """Render a run file; its name without the suffix is the run's."""
    from harness import registry
    from harness.gate_records import read_gate
    from harness.report import render
    from harness.run_file import read_file

    if not path.is_file():
        raise UserError(f"no run file {path}: give one under benchmark_results")
    found = read_file(path)
    names = registry.stack_names({case.model for case in found.plan.every()})
    return render.write(found.records, found.plan, found.run, out, formats, read_gate(records), names)


def dashboard(results: Path, out: Path) -> Path:
    """Write the site of all run files under `results`; gives its first page."""
    from datetime import date

    from harness import registry
    from harness.report.dashboard import site

    return site.write(results, out, date.today(), registry.stack_names(registry.names()))[0]


if __name__ == "__main__":
    sys.exit(main())
