"""`python -m harness.compare BASE HEAD`: what changed between two runs, with a verdict for each case.

BASE and HEAD are run files, folders of them, names of runs, or commits whose runs lie under --results. With --live they
are git revisions, which are measured now, in turns: `python -m harness.compare --live main HEAD -- +model=NAME ...`.

A step of a bisection compares the good end with the commit under judgment:

    python -m harness.compare --live --bisect-step decode --effect 0.949 GOOD COMMIT -- +model=NAME ...

--effect is the speed of the known bad end over the good one. The commit is bad where its interval lies wholly beyond
half of it, sqrt(0.949) here, and good where it lies wholly short of that: exit code 1 or 0. This is asked after
--rounds rounds, and again after twice, three and four times as many; the intervals of all looks together hold 99 %, and
below ten rounds a look decides nothing. 125: neither, or the commit failed. 255: a mistake, a bug or an interruption,
which ends the bisection. `python -m harness.history --bisect KEY:PHASE` measures the ends and asks every step.

Exit code 0: every case was decided and none is worse. 1: something is slower, fails anew, or is lost. 2: a mistake in
what was asked. 3: nothing is worse, but not everything could be decided. 130 and 143: interrupted; the work
trees are removed.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO, get_args

from harness import registry
from harness.compare import bisect, live, markdown, runs, sides, step
from harness.compare.interruption import Interrupted, interruptible
from harness.compare.status import status
from harness.errors import HarnessError, UserError
from harness.record import Phase

ROUNDS = 10


def main(arguments: Sequence[str] | None = None, out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    asked = _parser().parse_args(words[:end])
    try:
        with interruptible():
            if asked.bisect_step or asked.effect is not None:
                return _step(asked, words[end + 1 :], out, err)
            found = _found(asked, words[end + 1 :], err)
        names = registry.stack_names(registry.names())
        text = markdown.render(found, asked.base, asked.head, asked.all, names)
        if asked.markdown is not None:
            asked.markdown.write_text(text)
    except Interrupted as error:
        print(f"{error}: nothing was compared, and the work trees are removed", file=err)
        return bisect.ABORT if asked.bisect_step else error.exit_code
    except (HarnessError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=err)
        return bisect.ABORT if asked.bisect_step else 2
    except Exception:
        if not asked.bisect_step:
            raise
        traceback.print_exc(file=err)
        raise SystemExit(bisect.ABORT) from None
    print(text, end="", file=out)
    return found.exit_code


def _step(asked: argparse.Namespace, overrides: Sequence[str], out: TextIO, err: TextIO) -> int:
    if not (asked.live and asked.bisect_step and asked.effect is not None and overrides):
        raise UserError("a step of a bisection is --live --bisect-step PHASE --effect X GOOD COMMIT -- +model=NAME")
    if not 0 < asked.effect < 1:
        raise UserError(f"--effect {asked.effect}: the bad end's speed over the good one's lies between 0 and 1")
    if asked.markdown is not None:
        raise UserError("a step of a bisection answers in one line: it writes no --markdown")
    at = step.rounds_at(asked.rounds)
    with (
        status(err, lines=False) as say,
        live.looks(asked.repository, asked.base, asked.head, overrides, at, say, step.CONFIDENCE) as looks,
    ):
        answer = step.answer(looks, asked.bisect_step, asked.effect)
    print(f"{sides.commit_of(asked.repository, asked.head)[:12]}  {answer}", file=out)
    return bisect.EXIT_CODES[answer.side]


def _found(asked: argparse.Namespace, overrides: Sequence[str], err: TextIO) -> runs.Comparison:
    if asked.live:
        if not overrides:
            raise UserError("--live measures what follows `--`: add -- +model=NAME")
        with status(err) as say:
            return live.run(asked.repository, asked.base, asked.head, overrides, asked.rounds, say)
    if overrides:
        raise UserError("nothing is measured without --live")
    return runs.compare_runs(*(sides.records(named, asked.results) for named in (asked.base, asked.head)))


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
    asked = "answer for this phase in one line, with the exit codes of `git bisect run`"
    parser.add_argument("--bisect-step", metavar="PHASE", choices=get_args(Phase), help=asked)
    parser.add_argument("--effect", type=float, metavar="X", help="of a bisection: the bad end's speed over the good's")
    return parser


if __name__ == "__main__":
    sys.exit(main())
