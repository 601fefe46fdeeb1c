"""`python -m harness compare BASE HEAD`: what changed between two runs, with a verdict for each case."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO, get_args

from harness.analysis.compare import markdown, revisions, runs
from harness.analysis.compare.interruption import Interrupted, interruptible
from harness.build import registry
from harness.commands import bisect, bisect_step, compare_live
from harness.commands.answers import one_line
from harness.commands.compare_status import status
from harness.commands.options import RECORDS, Asked, Option, Usage, flag, number, one_of, whole
from harness.errors import HarnessError, UserError
from harness.machine.installation import WORK
from harness.records.record import Phase

ROUNDS = 10
PHASES: tuple[Phase, ...] = get_args(Phase)
USAGE = Usage(
    "compare",
    """python -m harness compare BASE HEAD                        what is on record of two runs
python -m harness compare live=BASE,HEAD +model=X ...       two git revisions, measured now, in turns

BASE and HEAD are run files, folders of them, names of runs, or commits whose runs lie under the folder of records. Runs
of one case compare whatever their arms, seeds and protocols were. On a GPU the candidate's own time is compared, on a
CPU its ratio to the reference of the same process; the speed-up over the reference stands beside it.

A step of a bisection compares the good end with the commit under judgment:

    python -m harness compare live=GOOD,COMMIT bisect_step=decode effect=0.949 +model=X ...

The effect is the speed of the known bad end over the good one. The commit is bad where its interval lies wholly beyond
half of it, sqrt(0.949) here, and good where it lies wholly short of that: exit code 1 or 0. This is asked after so many
rounds as asked, and again after twice, three and four times as many; the intervals of all looks together hold 99 %,
and below ten rounds a look decides nothing. 125: neither, or the commit failed. 255: a mistake, a bug or an
interruption, which ends the bisection. `python -m harness history bisect=KEY:PHASE` measures the ends and asks every
step.

Exit code 0: every case was decided and none is worse. 1: something is slower, fails anew, or is lost. 2: a mistake in
what was asked. 3: nothing is worse, but not everything could be decided, or a file that cannot be trusted was set
aside. 130 and 143: interrupted; the work trees are
removed.""",
    (
        Option("live", "BASE,HEAD: measure two git revisions in turns"),
        Option("out", "folder of records", RECORDS, Path),
        Option("markdown", "also write the comparison to this file", None, Path),
        Option("strict", "refuse where one of many files cannot be trusted, instead of setting it aside", False, flag),
        Option("all", "show the cases that are the same, too", False, flag),
        Option("rounds", "of a process of each revision", ROUNDS, whole),
        Option("repository", "of the revisions; by default this code's", WORK, Path),
        Option("bisect_step", "answer for this phase, with the exit codes of `git bisect run`", None, one_of(*PHASES)),
        Option("effect", "of a bisection: the bad end's speed over the good's", None, number),
    ),
    overrides=True,
    words=range(3),
)
help_text = USAGE.help


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    if any(word.startswith("bisect_step=") for word in arguments):
        return _step(arguments, out, err)
    asked = USAGE.read(arguments)
    base, head = _pair(asked)
    try:
        with interruptible():
            found, aside = _found(asked, base, head, err)
    except Interrupted as error:
        print(f"{error}: nothing was compared, and the work trees are removed", file=err)
        return error.exit_code
    text = markdown.render(found, base, head, asked["all"], registry.stack_names(registry.names()))
    try:
        if asked["markdown"] is not None:
            asked["markdown"].write_text(text)
    except OSError as error:
        raise UserError(f"cannot write {asked['markdown']}: {error.strerror}") from None
    print(text, end="", file=out)
    for reason in aside:
        print(f"set aside: {reason}", file=err)
    return found.exit_code or (3 if aside else 0)


def _pair(asked: Asked) -> tuple[str, str]:
    """What was and what is now, as they were named."""
    if asked["live"] is None:
        if len(asked.words) != 2:
            raise UserError("compare takes BASE and HEAD, or live=BASE,HEAD with +model=NAME")
        return asked.words[0], asked.words[1]
    base, comma, head = asked["live"].partition(",")
    if asked.words or not (base and comma and head):
        raise UserError(f"compare live={asked['live']}: two revisions are written live=BASE,HEAD")
    return base, head


def _found(asked: Asked, base: str, head: str, err: TextIO) -> tuple[runs.Comparison, Sequence[str]]:
    """What was found, and the files that were set aside."""
    if asked["effect"] is not None:
        raise UserError("compare: effect=X is of a bisection: add bisect_step=PHASE")
    if asked["live"] is None:
        if asked.overrides:
            raise UserError(f"compare: nothing is measured without live=BASE,HEAD: {asked.overrides[0]} has no effect")
        named = [revisions.records(name, asked["out"], asked["strict"]) for name in (base, head)]
        aside = dict.fromkeys(reason for side in named for reason in side.aside)
        return runs.compare_runs(*(side.records for side in named)), tuple(aside)
    if not asked.overrides:
        raise UserError("compare: live=BASE,HEAD measures a case: add +model=NAME")
    with status(err) as say:
        return compare_live.run(asked["repository"], base, head, asked.overrides, asked["rounds"], say), ()


def _step(arguments: Sequence[str], out: TextIO, err: TextIO) -> int:
    """`git bisect run` goes on after every exit code but ABORT, so that nothing else may come of a mistake or a bug."""
    try:
        with interruptible():
            return _answer(USAGE.read(arguments), out, err)
    except Interrupted as error:
        print(f"{error}: nothing was compared, and the work trees are removed", file=err)
        return bisect.ABORT
    except (HarnessError, OSError) as error:
        print(f"error: {one_line(error)}", file=err)
        return bisect.ABORT
    except Exception:  # noqa: BLE001
        traceback.print_exc(file=err)
        raise SystemExit(bisect.ABORT) from None


def _answer(asked: Asked, out: TextIO, err: TextIO) -> int:
    if not (asked["live"] and asked["effect"] is not None and asked.overrides):
        raise UserError("a step of a bisection is compare live=GOOD,COMMIT bisect_step=PHASE effect=X +model=NAME")
    if not 0 < asked["effect"] < 1:
        raise UserError(f"effect={asked['effect']}: the bad end's speed over the good one's lies between 0 and 1")
    if asked["markdown"] is not None:
        raise UserError("a step of a bisection answers in one line: it writes no markdown=FILE")
    good, commit = _pair(asked)
    repository, at = asked["repository"], bisect_step.rounds_at(asked["rounds"])
    with (
        status(err, lines=False) as say,
        compare_live.looks(repository, good, commit, asked.overrides, at, say, bisect_step.CONFIDENCE) as looks,
    ):
        answer = bisect_step.answer(looks, asked["bisect_step"], asked["effect"])
    print(f"{revisions.commit_of(repository, commit)[:12]}  {answer}", file=out)
    return bisect.EXIT_CODES[answer.side]
