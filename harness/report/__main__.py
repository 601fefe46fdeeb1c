"""`python -m harness.report RUN.jsonl`: the report of a run file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report and print its paths. 2 when the file cannot be read or trusted, or the report not be written."""
    parser = argparse.ArgumentParser(prog="python -m harness.report", description="The report of a run file.")
    parser.add_argument("run", type=Path, help="a run file, benchmark_results/<hardware>/<run>.jsonl")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder to write <run>/ into (reports)")
    parser.add_argument("--format", default="html,markdown", help="html, markdown or both (html,markdown)")
    chosen = parser.parse_args(arguments)
    try:
        for path in report(chosen.run, chosen.out, chosen.format.split(",")):
            print(path)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def report(path: Path, out: Path, formats: Sequence[str]) -> list[Path]:
    """Render a run file; its name without the suffix is the run's."""
    from harness.errors import UserError
    from harness.report import render
    from harness.store import read_file

    if not path.is_file():
        raise UserError(f"no run file {path}: give one under benchmark_results")
    found = read_file(path)
    return render.write(found.records, found.plan, found.run, out, formats)


if __name__ == "__main__":
    sys.exit(main())
