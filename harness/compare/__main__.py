"""`python -m harness.compare BASE HEAD`: what changed between two runs, with a verdict for each case.

BASE and HEAD are run files, folders of them, names of runs, or commits whose runs lie under --results. With --live they
are git revisions, which are measured now, in turns: `python -m harness.compare --live main HEAD -- +model=NAME ...`.

Exit code 0: every case was decided and none is worse. 1: something is slower, fails anew, or is lost. 2: a mistake in
what was asked. 3: nothing is worse, but not everything could be decided. 130 and 143: interrupted; the work
trees are removed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, get_args

from harness.compare import bisect, live, markdown, runs, sides
from harness.compare.interruption import Interrupted, interruptible
from harness.errors import HarnessError, UserError
from harness.record import Phase

ROUNDS = 10


def main(arguments: Sequence[str] | None = None, out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    asked = _parser().parse_args(words[:end])
    try:
        with interruptible():
            found = _found(asked, words[end + 1 :], err)
        text = markdown.render(found, asked.base, asked.head, asked.all)
        if asked.markdown is not None:
            asked.markdown.write_text(text)
    except Interrupted as error:
        print(f"{error}: nothing was compared, and the work trees are removed", file=err)
        return bisect.ABORT if asked.bisect_step else error.exit_code
    except (HarnessError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=err)
        return bisect.ABORT if asked.bisect_step else 2
    print(text, end="", file=out)
    return bisect.step_code(found, asked.bisect_step) if asked.bisect_step else found.exit_code


def _found(asked: argparse.Namespace, overrides: Sequence[str], err: TextIO) -> runs.Comparison:
    if asked.live:
        if not overrides:
            raise UserError("--live measures what follows `--`: add -- +model=NAME")
        with _status(err) as say:
            return live.run(asked.repository, asked.base, asked.head, overrides, asked.rounds, say)
    if overrides or asked.bisect_step:
        raise UserError("nothing is measured without --live")
    return runs.compare_runs(*(sides.records(named, asked.results) for named in (asked.base, asked.head)))


@contextmanager
def _status(err: TextIO) -> Iterator[live.Say]:
    """One line that changes on a terminal, a line each elsewhere."""
    if not err.isatty():
        yield lambda text: print(text, file=err, flush=True)
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(file=err).status("") as status:
        yield lambda text: status.update(escape(text))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", metavar="BASE", help="what was")
    parser.add_argument("head", metavar="HEAD", help="what is now")
    parser.add_argument("--results", type=Path, default=Path("benchmark_results"), help="folder of run files")
    parser.add_argument("--markdown", type=Path, help="also write the comparison to this file")
    parser.add_argument("--all", action="store_true", help="show the cases that are the same, too")
    parser.add_argument("--live", action="store_true", help="measure two git revisions in turns")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of a process of each; {ROUNDS} by default")
    parser.add_argument("--repository", type=Path, default=bisect.CODE, help="of the revisions")
    step = "answer for this phase, with the exit codes of `git bisect run`"
    parser.add_argument("--bisect-step", metavar="PHASE", choices=get_args(Phase), help=step)
    return parser


if __name__ == "__main__":
    sys.exit(main())
