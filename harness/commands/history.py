"""`python -m harness history`: is tonight's speed that of the nights before, and since which commit is it not?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TextIO

from harness.analysis.compare.interruption import Interrupted, interruptible
from harness.analysis.history import accepted, nightly_rules, nightly_series, trend
from harness.analysis.history.accepted import Accepted
from harness.analysis.history.nightly_rules import Finding, Point
from harness.analysis.history.protocol_changes import protocol_changes
from harness.build import registry
from harness.commands import bisect_step
from harness.commands.bisect import bisect
from harness.commands.options import RECORDS, Asked, Option, Usage, day, flag, whole
from harness.errors import UserError
from harness.machine.installation import WORK
from harness.records import store
from harness.records.stack_name import StackNames

LOUD = ("slower", "rerun", "insufficient history", "faster")
ROUNDS = 10
USAGE = Usage(
    "history",
    """python -m harness history                                 alarms, with commit range and the command that bisects
python -m harness history trend=true                      every change of level (needs the extra `history`)
python -m harness history bisect=KEY:PHASE                find the commit by the live A/B
python -m harness history accept=KEY:PHASE owner=... reason=... expires=2030-01-31

Is tonight's speed that of the nights before, and since which commit is it not? On a GPU that is the candidate's own
speed, on a CPU its ratio to the reference. All runs of a case are one series, whatever their arms and seeds; those of
one protocol on one machine are judged together, and changes of protocol are told. Further words of a bisection go to
every run, as in timing=signoff.

Exit code 0: every case was judged and none is slower. 1: an alarm. 2: a mistake in what was asked. 3: no alarm, but a
case has too little history, or its last point is to be measured again.""",
    (
        Option("out", "folder of records", RECORDS, Path),
        Option("trend", "every change of level", False, flag),
        Option("bisect", "KEY:PHASE whose slower commit is to be found"),
        Option("accept", "KEY:PHASE whose new level is the one to hold from now on"),
        Option("owner", "of an acceptance"),
        Option("reason", "of an acceptance"),
        Option("expires", "day on which an acceptance ends, YYYY-MM-DD", None, day),
        Option("rounds", f"of a bisection's step, which takes up to {bisect_step.LOOKS} times as many", ROUNDS, whole),
        Option("repository", "of the commits; by default this code's", WORK, Path),
    ),
    overrides=True,
)
help_text = USAGE.help


def main(
    arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr, today: date | None = None
) -> int:
    asked = USAGE.read(arguments)
    if sum(bool(asked[action]) for action in ("trend", "bisect", "accept")) > 1:
        raise UserError("history: trend, bisect and accept are three questions: ask one")
    if asked.overrides and not asked["bisect"]:
        raise UserError(f"history: {asked.overrides[0]} has no effect without bisect=KEY:PHASE")
    try:
        with interruptible():
            return _main(asked, today or date.today(), out, err)
    except Interrupted as error:
        print(f"{error}: the work trees are removed", file=err)
        return error.exit_code


def _main(asked: Asked, today: date, out: TextIO, err: TextIO) -> int:
    records: Path = asked["out"]
    frame = store.load(records, **nightly_series.WHERE)
    steps = accepted.since(accepted.read(records), today, nightly_series.identities(frame))
    found = nightly_rules.judge(nightly_series.series(frame), steps)
    if asked["accept"]:
        print(accepted.write(_accepted(_named(found, asked["accept"]), asked, today), records), file=out)
        return 0
    if asked["bisect"]:
        print(_bisect(_named(found, asked["bisect"]), asked, err), file=out)
        return 0
    names = registry.stack_names(registry.names())
    for line in _trend_lines(found, names) if asked["trend"] else _lines(found, names):
        print(line, file=out)
    return exit_code(found)


def exit_code(found: Sequence[Finding]) -> int:
    standings = {item.standing for item in found}
    if "slower" in standings:
        return 1
    return 3 if not found or standings & {"insufficient history", "rerun"} else 0


def _lines(found: Sequence[Finding], names: StackNames) -> Iterator[str]:
    told = [item for standing in LOUD for item in found if item.standing == standing]
    for item in told:
        yield from _told(item, names)
    changed = [(item, change) for item in found for change in protocol_changes(item.series)]
    for item, change in changed:
        yield f"PROTOCOL  {names.label(item.series.label)}, {item.series.phase}: {change.sentence()}"
    yield from _legend([*told, *(item for item, _ in changed)], names)
    counts = [(word, sum(item.standing == word for item in found)) for word in (*LOUD, "steady")]
    yield f"{len(found)} series: " + (", ".join(f"{count} {word}" for word, count in counts if count) or "no history")


def _legend(found: Sequence[Finding], names: StackNames) -> Iterator[str]:
    for named in names.legend(item.series.label for item in found):
        yield named.sentence()


def _told(item: Finding, names: StackNames) -> Iterator[str]:
    yield f"{item.standing.upper()}  {names.label(item.series.label)}, {item.series.phase}  [{item.series.name}]"
    if item.reason:
        yield f"    {item.reason}"
    if item.last_good and item.first_bad:
        yield (
            f"    {item.rule}: {item.change:+.1%} ({item.errors:.1f} standard errors, p {item.p:.1g}) since "
            f"{item.first_bad.at}, run {item.first_bad.run}"
        )
        yield f"    commits {item.last_good.commit[:12]}..{item.first_bad.commit[:12]}"
    if item.standing == "slower":
        yield f"    python -m harness history bisect={item.series.name}"


def _trend_lines(found: Sequence[Finding], names: StackNames) -> Iterator[str]:
    for item in found:
        levels = trend.levels(item.series)
        yield f"{names.label(item.series.label)}, {item.series.phase}: {len(levels) or 'too few points for a'} level(s)"
        for level in levels:
            first, last = level.points[0], level.points[-1]
            yield (
                f"    {level.speed:.3f}{item.series.unit}  {first.at} to {last.at}, {len(level.points)} points, "
                f"commits {first.commit[:12]} to {last.commit[:12]}"
            )
    yield from _legend(found, names)


def _named(found: Sequence[Finding], name: str) -> Finding:
    for item in found:
        if item.series.name == name:
            return item
    raise UserError(f"no series '{name}': `python -m harness history` lists KEY:PHASE of each alarm")


def _step(item: Finding) -> tuple[Point, Point]:
    """The last point before the step and the first after it."""
    if item.last_good is None or item.first_bad is None:
        raise UserError(f"{item.series.name} is {item.standing}: there is no step to accept or to bisect")
    return item.last_good, item.first_bad


def _accepted(item: Finding, asked: Asked, today: date) -> Accepted:
    missing = [f"{name}=" for name in ("owner", "reason", "expires") if not asked[name]]
    if missing:
        raise UserError(f"an acceptance needs {' '.join(missing)}: who, why and until when")
    _, first = _step(item)
    try:
        return Accepted(
            key=item.series.key,
            phase=item.series.phase,
            fingerprint=first.fingerprint,
            since=first.at,
            commit=first.commit,
            owner=asked["owner"],
            reason=asked["reason"],
            made=today,
            expires=asked["expires"],
        )
    except ValueError as error:
        raise UserError(f"an acceptance cannot be made: {error}") from None


def _bisect(item: Finding, asked: Asked, err: TextIO) -> str:
    good, bad = (point.commit for point in _step(item))
    if good == bad:
        raise UserError(f"{item.series.name} changed within commit {good[:12]}: no commit made it slower")
    words = [*item.series.ask, *asked.overrides]
    found = bisect(asked["repository"], good, bad, item.series.phase, words, asked["rounds"], err)
    return f"{found.commit} made {item.series.label}, {item.series.phase} slower: {bisect_step.told(found.effect)}"
