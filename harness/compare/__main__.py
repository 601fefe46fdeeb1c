"""`python -m harness.compare BASE HEAD`: what changed between two runs, with a verdict for each case.

BASE and HEAD are run files, folders of them, names of runs, or commits whose runs lie under --results.
Exit code 0: every case was decided and none is worse. 1: something is slower, fails anew, or is lost. 2: a mistake in
what was asked. 3: nothing is worse, but not everything could be decided.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from harness.compare import markdown, runs, sides
from harness.errors import HarnessError


def main(arguments: Sequence[str] | None = None, out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    asked = _parser().parse_args(arguments)
    try:
        base, head = (sides.records(named, asked.results) for named in (asked.base, asked.head))
        found = runs.compare_runs(base, head)
        text = markdown.render(found, asked.base, asked.head, asked.all)
        if asked.markdown is not None:
            asked.markdown.write_text(text)
    except (HarnessError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=err)
        return 2
    print(text, end="", file=out)
    return found.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", metavar="BASE", help="what was")
    parser.add_argument("head", metavar="HEAD", help="what is now")
    parser.add_argument("--results", type=Path, default=Path("benchmark_results"), help="folder of run files")
    parser.add_argument("--markdown", type=Path, help="also write the comparison to this file")
    parser.add_argument("--all", action="store_true", help="show the cases that are the same, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
