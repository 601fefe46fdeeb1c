"""docs/judge-mutations.md: how many mutants of each module a test noticed, and every one that none did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.judge_mutations.kept import Kept
from tools.judge_mutations.mutants import Module, Mutant

HERE = Path(__file__).parent
SURVIVORS, RUN = HERE / "survivors.yaml", HERE / "run.yaml"
PAGE = "docs/judge-mutations.md"
ABOUT_SURVIVORS = """\
# Mutants that no test notices, by module: what is changed, and why that is no fault. One without a reason is open.
# Written by `python -m tools.judge_mutations --page`, which keeps the reasons that are here.
"""
HEAD = """\
# Mutations of the judge

Whoever judges is judged here: one small change at a time is made to the code that decides what is right, faster and fit
to ship (a factor half as wide again, `<` for `<=`, `max` for `min`, a condition turned, a field left out, a step
skipped), and the tests beside that code must notice. Written by

```sh
python -m tools.judge_mutations --page   # all, resumable; --sample 12 for a few, --again for those that survived
```

A mutant is *equivalent* where a reason stands beside it in `tools/judge_mutations/survivors.yaml`: nobody could notice.
Those without a reason are *open*. `Of` counts the mutants that can be made, `run` those that were.

The tool is the project's own. mutmut changes only the bodies of functions, and the limits of the gate are constants of
modules; cosmic-ray starts an interpreter for every mutant, which takes torch seconds to load, and knows no change of a
factor. Here a mutant is a fork of a process that has loaded every library and none of our modules.
"""


@dataclass(frozen=True)
class Row:
    """One module."""

    mutants: int
    run: int
    killed: int


@dataclass(frozen=True)
class Survivor:
    line: int
    """Where it was in the run."""
    reason: str | None
    """Why nobody could notice; None where that is open."""


Survivors = dict[str, dict[str, Survivor]]
"""Module -> scope and change -> what is known of it."""


def survivors() -> Survivors:
    read = yaml.safe_load(SURVIVORS.read_text()) or {}
    return {path: {name: Survivor(**said) for name, said in found.items()} for path, found in read.items()}


def key(mutant: Mutant) -> str:
    """What a mutant is called under its module."""
    return mutant.name.partition("::")[2]


def is_known(mutant: Mutant) -> bool:
    return key(mutant) in survivors().get(mutant.module, {})


def write(root: Path, modules: Mapping[str, Module], kept: Kept, commit: str) -> None:
    """The page, and what it is made of: the survivors with the reasons that they have, and the numbers of the run."""
    known, found, rows = survivors(), {}, {}
    for path, module in modules.items():
        outcomes = {mutant: kept.outcome(module, mutant) for mutant in module.mutants}
        survived = [mutant for mutant, outcome in outcomes.items() if outcome in ("survived", "not run")]
        run = sum(outcome is not None for outcome in outcomes.values())
        reasons = {name: survivor.reason for name, survivor in known.get(path, {}).items()}
        found[path] = {key(each): vars(Survivor(each.line, reasons.get(key(each)))) for each in survived}
        rows[path] = vars(Row(len(outcomes), run, run - len(survived)))
    SURVIVORS.write_text(ABOUT_SURVIVORS + _dumped({path: each for path, each in found.items() if each}))
    RUN.write_text(_dumped({"commit": commit, "modules": rows}))
    (root / PAGE).write_text(rendered())


def rendered() -> str:
    """The page as its data says it is."""
    run: dict[str, Any] = yaml.safe_load(RUN.read_text())
    rows = {path: Row(**row) for path, row in run["modules"].items()}
    known = survivors()
    told = [HEAD, f"Run at commit `{run['commit']}`.", "", *_table(rows, known), ""]
    for path, found in known.items():
        told += [f"## {path}", "", "| line | change | why nobody could notice |", "|---|---|---|"]
        told += [f"| {each.line} | {_code(name)} | {each.reason or 'open'} |" for name, each in found.items()]
        told.append("")
    return "\n".join(told)


def _table(rows: Mapping[str, Row], known: Survivors) -> list[str]:
    lines = [
        "| module | of | run | killed | equivalent | open | killed of those that could be |",
        "|---|---|---|---|---|---|---|",
    ]
    every = {path: (row, [each.reason for each in known.get(path, {}).values()]) for path, row in rows.items()}
    lines += [_row(f"`{path}`", [row], found) for path, (row, found) in every.items()]
    total = [reason for _, found in every.values() for reason in found]
    return [*lines, _row("all", list(rows.values()), total)]


def _row(name: str, rows: Sequence[Row], found: Sequence[str | None]) -> str:
    mutants, run, killed = (sum(getattr(row, field) for row in rows) for field in ("mutants", "run", "killed"))
    equivalent = sum(reason is not None for reason in found)
    share = f"{killed / (run - equivalent):.0%}" if run > equivalent else ""
    return f"| {name} | {mutants:,} | {run:,} | {killed:,} | {equivalent} | {len(found) - equivalent} | {share} |"


def _code(name: str) -> str:
    """Where and what, cut to what differs, as Markdown's code in a table."""
    scope, _, change = name.partition("::")
    before, _, after = change.partition(" -> ")
    start = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    start = max(0, start - 40)
    cut = "..." if start else ""
    shown = " -> ".join(f"{cut}{text[start : start + 100]}" for text in (before, after)).replace("|", "\\|")
    return (f"{scope}: " if scope else "") + f"`` {shown} ``"


def _dumped(content: Any) -> str:
    return str(yaml.safe_dump(content, sort_keys=False, width=2000, allow_unicode=True))
