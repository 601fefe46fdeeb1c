"""Two git revisions measured now, on this machine, in turns: rounds of one fresh process of each, in random order.

Each round gives one pair: HEAD's log speed less BASE's, on a GPU of the candidate's own time, on a CPU of its ratio to
the reference of its own process. The pairs are judged as the blocks of one record are. A round in which a side was
disturbed is left out and counted.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import get_args

from harness.analysis.compare import estimate
from harness.analysis.compare.anchor import speeds
from harness.analysis.compare.arms import DROPPED_LIMIT, arms
from harness.analysis.compare.attempts import standing
from harness.analysis.compare.estimate import Estimate
from harness.analysis.compare.interruption import deferred
from harness.analysis.compare.revisions import commit_of
from harness.analysis.compare.runs import (
    Change,
    Comparison,
    NotComparable,
    ordered,
    over_reference,
    without_speed,
)
from harness.analysis.stats import CONFIDENCE, FEWEST
from harness.errors import UserError
from harness.records.case_identity import CaseIdentity
from harness.records.record import Phase, Record
from harness.records.run_file import read_file

Held = Mapping[str, Record]
"""Key of a case's identity -> record, of one process."""
Measure = Callable[[Path, Path], Held]
"""(work tree, folder for its run file) -> what it measured there."""
Say = Callable[[str], object]
"""Told what is being done, before it is done."""


@dataclass(frozen=True)
class Rounds:
    base: tuple[Held, ...]
    head: tuple[Held, ...]


def alternate(
    base: Path, head: Path, looks: Sequence[int], measure: Measure, folder: Path, seed: int, say: Say
) -> Iterator[Rounds]:
    """Measure both work trees once a round, which of them first being drawn anew each time. Gives all rounds so far
    when their number is one of `looks`, which ascend."""
    draw, begin = random.Random(seed), time.monotonic()
    held: dict[str, list[Held]] = {"base": [], "head": []}
    for number in range(looks[-1]):
        turns = [("base", base), ("head", head)]
        draw.shuffle(turns)
        end = next(look for look in looks if look > number)
        left = f", {_minutes((time.monotonic() - begin) / number * (end - number))} left" if number else ""
        say(f"round {number + 1} of {end}{left}: {turns[0][0]}, then {turns[1][0]}")
        for side, tree in turns:
            held[side].append(measure(tree, folder / f"{side}-{number}"))
        if number + 1 == end:
            yield Rounds(tuple(held["base"]), tuple(held["head"]))


def judge(rounds: Rounds, confidence: float = CONFIDENCE) -> Comparison:
    """Pure. A case that failed in any round has failed."""
    changes: list[Change] = []
    apart: list[NotComparable] = []
    for key in dict.fromkeys(key for side in (rounds.base, rounds.head) for held in side for key in held):
        base, head = ([held.get(key) for held in side] for side in (rounds.base, rounds.head))
        ended = without_speed(_worst(base), _worst(head))
        if ended is not None:
            apart.append(ended)
            continue
        pairs = [(before, after) for before, after in zip(base, head, strict=True) if before and after]
        found = [change for phase in get_args(Phase) if (change := _change(pairs, phase, confidence))]
        changes += found
        if not found:
            apart.append(
                NotComparable(key, pairs[0][1].case.label(), "not comparable", "no phase was timed as it is compared")
            )
    return ordered(changes, apart)


def run(
    repository: Path, base: str, head: str, overrides: Sequence[str], rounds: int, say: Say, seed: int = 0
) -> Comparison:
    """The whole A/B of so many rounds. Raises what `looks` raises."""
    with looks(repository, base, head, overrides, (rounds,), say, seed=seed) as found:
        return next(found)


@contextmanager
def looks(
    repository: Path,
    base: str,
    head: str,
    overrides: Sequence[str],
    at: Sequence[int],
    say: Say,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Iterator[Iterator[Comparison]]:
    """Work trees made and removed, `python -m harness OVERRIDES` in each, in turns: what all rounds so far say, after
    each number of them in `at`, which ascend. Nothing is measured before it is asked for.

    UserError for a revision that is none, too few rounds for an interval, and what the command itself refuses.
    """
    if at[0] < FEWEST:
        raise UserError(f"{at[0]} rounds: a 99 % interval needs {FEWEST}")
    say(f"work trees of {base} and {head}")
    with (
        TemporaryDirectory(prefix="inference-pio-") as folder,
        work_tree(repository, base, Path(folder) / "base") as before,
        work_tree(repository, head, Path(folder) / "head") as after,
    ):
        turns = alternate(before, after, at, command(overrides), Path(folder) / "records", seed, say)
        yield (judge(rounds, confidence) for rounds in turns)


def command(overrides: Sequence[str]) -> Measure:
    """Measures by `python -m harness OVERRIDES`, in a fresh process with the code of the work tree. A tree is proven
    once, before its first round; one from before `proof` was a setting is proven in every round."""
    proven: dict[Path, list[str]] = {}

    def measure(tree: Path, folder: Path) -> Held:
        if tree not in proven:
            config = tree / "conf" / "config.yaml"
            knows = config.exists() and "\nproof: " in config.read_text()
            untimed = [word for word in overrides if not word.lstrip("+").startswith("timing=")]
            proof = ask(tree, [*untimed, "timing=off"], folder / "proof") if knows else None
            proven[tree] = [f"proof={proof}"] if proof else []
        return standing(read_file(ask(tree, [*overrides, *proven[tree]], folder)).records)

    def ask(tree: Path, asked: Sequence[str], folder: Path) -> Path:
        words = [*asked, f"out={folder}", f"reports={folder}", "report=[]", "resume=off"]
        done = subprocess.run(
            [sys.executable, "-m", "harness", *words],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
        files = [path for path in folder.rglob("*.jsonl") if "proof" not in path.relative_to(folder).parts]
        if done.returncode not in (0, 1) or len(files) != 1:
            said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}, no record"]
            raise UserError(f"python -m harness {' '.join(overrides)} in {tree.name}: {said[0]}")
        return files[0]

    return measure


@contextmanager
def work_tree(repository: Path, revision: str, at: Path) -> Iterator[Path]:
    """A detached work tree of the revision, removed on every exit; the user's own checkout is not touched."""
    commit = commit_of(repository, revision)
    git = ["git", "-C", str(repository), "worktree"]
    try:
        with deferred():
            made = subprocess.run([*git, "add", "--quiet", "--detach", str(at), commit], capture_output=True, text=True)
        if made.returncode:
            raise UserError(f"no work tree of {revision}: {' '.join(made.stderr.split())}")
        yield at
    finally:
        if at.exists():
            subprocess.run([*git, "remove", "--force", str(at)], check=True, capture_output=True)


def _minutes(seconds: float) -> str:
    return f"about {max(round(seconds / 60), 1)} min" if seconds >= 60 else "under a minute"


def _worst(records: Sequence[Record | None]) -> Record | None:
    """The first that did not pass, None for a round without one, else the last."""
    return next((record for record in records if record is None or record.status != "passed"), records[-1])


def _change(pairs: Sequence[tuple[Record, Record]], phase: Phase, confidence: float) -> Change | None:
    timed = [(before, after) for before, after in pairs if _center(before, phase) and _center(after, phase)]
    if not timed:
        return None
    steady = [pair for pair in timed if not any(_disturbed(record, phase) for record in pair)]
    centers = [(_center(before, phase), _center(after, phase)) for before, after in steady]
    ratios = [after[0] - before[0] for before, after in centers if before and after]
    head = timed[-1][1]
    found = estimate.of_pairs(ratios, head.case.timing.margin, confidence)
    return Change(
        key=CaseIdentity.of(head).key,
        label=head.case.label(),
        phase=phase,
        base_ms=median(_candidate_ms(before, phase) for before, _ in timed),
        head_ms=median(_candidate_ms(after, phase) for _, after in timed),
        estimate=_qualified(found, len(timed) - len(steady), len(timed)),
        base_speedup=over_reference(timed[-1][0], phase),
        head_speedup=over_reference(head, phase),
    )


def _center(record: Record, phase: Phase) -> tuple[float] | None:
    """The median log speed of one process, over its kept blocks."""
    blocks = [speed for each in speeds(record, phase).values() for speed in each]
    return (median(blocks),) if blocks else None


def _disturbed(record: Record, phase: Phase) -> bool:
    return any(found.invalid for found in arms(record) if found.phase == phase)


def _candidate_ms(record: Record, phase: Phase) -> float:
    return next(found.candidate_ms for found in arms(record) if found.phase == phase)


def _qualified(found: Estimate, disturbed: int, total: int) -> Estimate:
    if disturbed > DROPPED_LIMIT * total:
        reason = f"{disturbed} of {total} rounds were disturbed: more than {DROPPED_LIMIT:.0%}"
        return replace(found, verdict="invalid", reasons=(*found.reasons, reason))
    return found
