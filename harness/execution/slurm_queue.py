"""What Slurm says of jobs, by its own commands."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence

from harness.errors import UserError

States = Mapping[str, tuple[str, str]]
"""Job id -> its state and the reason for it."""
ENDING_S = 120.0
"""From the canceling of jobs to the last of them being gone."""


def jobs_name(run: str) -> str:
    """The name of all jobs of a run: who goes on with it finds by it those that outlived its parent."""
    return f"inference-pio-{run}"


def states() -> States | None:
    """Of this user's jobs that are waiting or running; None when Slurm does not answer."""
    told = _said("squeue", "--noheader", "--me", "--array", "--format", "%i|%T|%r")
    if told is None:
        return None
    rows = (line.split("|", 2) for line in told.splitlines() if line.count("|") == 2)
    return {number: (state, reason) for number, state, reason in rows}


def accounted(number: str) -> str:
    """How a job ended; empty where accounting is off or has not heard of it yet."""
    told = _said("sacct", "--noheader", "--parsable2", "--allocations", "--jobs", number, "--format", "State")
    return told.split()[0] if told and told.strip() else ""


def cancel(numbers: Sequence[str]) -> None:
    if numbers:
        _said("scancel", *numbers)


def end(name: str) -> None:
    """Cancel the jobs of that name and wait until none is left. UserError where that cannot be known: a case must not
    run beside itself."""
    if shutil.which("scancel") is None:
        raise UserError(f"jobs {name} may be running still, and scancel is not on the path: resume=off starts anew")
    limit = time.monotonic() + ENDING_S
    while True:
        _said("scancel", f"--name={name}")
        left = _said("squeue", "--noheader", "--me", f"--name={name}", "--format", "%i")
        if left is not None and not left.strip():
            return
        if time.monotonic() > limit:
            raise UserError(f"jobs {name} do not end, or Slurm does not answer: resume=off starts anew")
        time.sleep(1.0)


def _said(*command: str) -> str | None:
    """What a command of Slurm prints; None when it fails, as while the controller restarts: it is asked again."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
