"""The commit that made something slower, found by `git bisect run` with the live A/B as its judge.

The known bad end is compared with the good one first. Each step then compares the commit under judgment with the good
end and says on which side of half of that effect it stands (`step`). It runs in a work tree of its own and with the
harness that runs now, not with that of the commit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from harness.analysis.compare.estimate import Estimate
from harness.analysis.compare.revisions import commit_of
from harness.commands import bisect_step, compare_live
from harness.commands.compare_status import status
from harness.errors import UserError
from harness.machine.installation import ROOT
from harness.records.record import Phase

EXIT_CODES: Mapping[bisect_step.Side, int] = {"good": 0, "bad": 1, "skip": 125}
ABORT = 255
"""Exit codes that `git bisect run` knows."""


@dataclass(frozen=True)
class Found:
    commit: str
    """The first slow one: its full hash."""
    effect: Estimate
    """The bad end over the good one."""


def bisect(
    repository: Path, good: str, bad: str, phase: Phase, overrides: Sequence[str], rounds: int, err: TextIO
) -> Found:
    """The first commit after `good`, up to `bad`, that stands on the slow side of their difference in this phase.

    `rounds` is the batch of a look (`step.rounds_at`). The ends' effect, a line for each step and git's own log go to
    `err` as they come. UserError when an end is no revision, `bad` is not slower than `good`, or the search ended with
    more than one candidate.
    """
    first, last = (commit_of(repository, revision) for revision in (good, bad))
    with (
        status(err, lines=False) as say,
        compare_live.looks(
            repository, first, last, overrides, bisect_step.rounds_at(rounds), say, bisect_step.CONFIDENCE
        ) as looks,
    ):
        effect = bisect_step.ends(looks, phase)
    print(f"{last[:12]}  {bisect_step.told(effect)}: the bad end", file=err, flush=True)
    asked = [f"bisect_step={phase}", f"effect={effect.speedup:.6f}", f"rounds={rounds}"]
    with (
        TemporaryDirectory(prefix="inference-pio-") as folder,
        compare_live.work_tree(repository, last, Path(folder) / "tree") as tree,
    ):
        python = [sys.executable, "-P", "-m", "harness", "compare", f"live={first},HEAD", *asked, f"repository={tree}"]
        _git_bisect(tree, ["start", last, first], err)
        if commit_of(tree, "HEAD") != last:
            _git_bisect(tree, ["run", *python, *overrides], err)
        return Found(commit_of(tree, "refs/bisect/bad"), effect)


def _git_bisect(tree: Path, words: Sequence[str], err: TextIO) -> None:
    command = ["git", "-C", str(tree), "bisect", *words]
    code, told = _together(command, os.environ | {"PYTHONPATH": str(ROOT)}, err)
    if code:
        said = told.strip().splitlines()[-1:] or ["no word of why"]
        raise UserError(f"git bisect {words[0]} found no commit: {said[0]}")


def _together(command: Sequence[str], environment: Mapping[str, str], err: TextIO) -> tuple[int, str]:
    """Exit code and output of a command and of all that it starts, told to `err` as it comes. An interruption ends
    them all, and waits until they have removed what they made."""
    started = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    told = []
    try:
        for line in started.stdout or ():
            print(line.rstrip("\n"), file=err, flush=True)
            told.append(line)
        return started.wait(), "".join(told)
    except BaseException:
        os.killpg(started.pid, signal.SIGTERM)
        started.communicate()
        raise
