"""Trained-like weights judged in a process of their own, on another core than random ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.machine.cores import THREADS
from harness.machine.process import BOUND, tail
from harness.records import check_log, partial_record
from harness.records.case import Case
from harness.records.checks import Check, Parity

FRAGMENT = "trained-like.json"


def cores() -> int:
    """How many threads this process was given, which may be fewer than there are cores."""
    return int(os.environ.get(THREADS) or len(os.sched_getaffinity(0)))


def has_core(case: Case) -> bool:
    """Whether trained-like weights of this case are to be judged, and there is a core to do so beside random ones."""
    return case.on_cpu and case.weights is None and case.recipe == "trained_like" and cores() > 1


def judge_elsewhere(
    case: Case, asked: Path, out: Path, keep: Callable[[Sequence[Check]], None]
) -> Callable[[], Parity]:
    """Start judging the case in the file `asked` on trained-like weights, in a process that leaves its fragment beside
    `out`. The returned function waits for its parity; what it had found is kept, too, where it ends badly, and
    HarnessError tells how it ended."""
    left = out.with_name(FRAGMENT)
    words = [sys.executable, "-P", "-m", "harness.execution.worker", str(asked), "prove", str(left)]
    with (out.with_name(f"{left.stem}.stderr")).open("w+b") as errors:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", BOUND, str(os.getpid()), *words, "--recipe", "trained_like"],
            env=os.environ | {THREADS: "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    said = Path(errors.name)

    def wait() -> Parity:
        code = child.wait()
        found = partial_record.read(left) if left.exists() else None
        if found is not None and found.parity is not None and code == 0:
            keep(found.parity.checks)
            return found.parity
        keep(check_log.read(check_log.beside(left)))
        how = found.error.message if found is not None and found.error else f"exit code {code}"
        with said.open("rb") as errors:
            raise HarnessError(f"the process of trained-like weights: {how}: {tail(errors)[-500:].strip()}")

    return wait
