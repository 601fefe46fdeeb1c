"""The commit that made something slower, found by `git bisect run` with the live A/B as its judge.

Each step compares the commit under judgment with the good one. It runs in a work tree of its own and with the harness
that runs now, not with that of the commit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from harness.compare.live import work_tree
from harness.compare.runs import Comparison
from harness.compare.sides import resolve
from harness.errors import UserError
from harness.record import Phase

GOOD, BAD, SKIP, ABORT = 0, 1, 125, 255
"""Exit codes that `git bisect run` knows."""
CODE = Path(__file__).resolve().parents[2]


def step_code(found: Comparison, phase: Phase) -> int:
    """Slower in this phase is bad, whatever another does; what could not be decided is skipped, a commit that fails
    being no slow one."""
    asked = found.only(phase)
    if any(change.estimate.verdict == "slower" for change in asked.changes):
        return BAD
    return GOOD if asked.changes and asked.exit_code == 0 else SKIP


def bisect(
    repository: Path, good: str, bad: str, phase: Phase, overrides: Sequence[str], rounds: int, err: TextIO
) -> str:
    """The first commit after `good`, up to `bad`, that is slower than `good` in this phase: its full hash.

    git's own log of the search goes to `err`. UserError when `good` is no revision, or the search found no commit.
    """
    first = resolve(repository, good)
    if first is None:
        raise UserError(f"'{good}' is no revision of {repository}")
    step = [sys.executable, "-P", "-m", "harness.compare", "--live", "--bisect-step", phase, "--rounds", str(rounds)]
    with (
        TemporaryDirectory(prefix="inference-pio-") as folder,
        work_tree(repository, bad, Path(folder) / "tree") as tree,
    ):
        git = ["git", "-C", str(tree), "bisect"]
        command = [*step, "--repository", str(tree), first, "HEAD", "--", *overrides]
        environment = os.environ | {"PYTHONPATH": str(CODE)}
        for words in (["start", "HEAD", first], ["run", *command]):
            code, told = _together([*git, *words], environment)
            print(told, end="", file=err)
            if code:
                said = told.strip().splitlines()[-1:] or ["no word of why"]
                raise UserError(f"git bisect {words[0]} found no commit: {said[0]}")
        found = resolve(tree, "refs/bisect/bad")
    if found is None:
        raise UserError("git bisect left no commit behind")
    return found


def _together(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and output of a command and of all that it starts. An interruption ends them all, and waits until they
    have removed what they made."""
    started = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    try:
        told, _ = started.communicate()
    except BaseException:
        os.killpg(started.pid, signal.SIGTERM)
        started.communicate()
        raise
    return started.returncode, told
