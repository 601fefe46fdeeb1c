"""`python -m harness.history`: is tonight's speed that of the nights before, and since which commit is it not?

    python -m harness.history                                    alarms, with commit range and the command that bisects
    python -m harness.history --trend                            every change of level (needs the extra `history`)
    python -m harness.history --bisect KEY:PHASE                 find the commit by the live A/B
    python -m harness.history --accept KEY:PHASE --owner ... --reason ... --expires 2030-01-31

Exit code 0: every case was judged and none is slower. 1: an alarm. 2: a mistake in what was asked. 3: no alarm, but a
case has too little history, or its last point is to be measured again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TextIO

from harness import registry, store
from harness.compare import step
from harness.compare.bisect import CODE, bisect
from harness.compare.interruption import Interrupted, interruptible
from harness.errors import HarnessError, UserError
from harness.history import accepted, nights, rules, trend
from harness.history.accepted import Accepted
from harness.history.rules import Finding, Point
from harness.stack_name import StackNames

LOUD = ("slower", "rerun", "insufficient history", "faster")
ROUNDS = 10


def main(
    arguments: Sequence[str] | None = None,
    out: TextIO = sys.stdout,
    err: TextIO = sys.stderr,
    today: date | None = None,
) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    asked = _parser().parse_args(words[:end])
    try:
        with interruptible():
            return _main(asked, words[end + 1 :], today or date.today(), out, err)
    except Interrupted as error:
        print(f"{error}: the work trees are removed", file=err)
        return error.exit_code
    except HarnessError as error:
        print(f"error: {' '.join(str(error).split())}", file=err)
        return 2


def _main(asked: argparse.Namespace, overrides: Sequence[str], today: date, out: TextIO, err: TextIO) -> int:
    every = nights.series(store.load(asked.results, **nights.WHERE))
    found = rules.judge(every, accepted.since(accepted.read(asked.results), today))
    if asked.accept:
        print(accepted.write(_accepted(_named(found, asked.accept), asked, today), asked.results), file=out)
        return 0
    if asked.bisect:
        print(_bisect(_named(found, asked.bisect), asked, overrides, err), file=out)
        return 0
    names = registry.stack_names(registry.names())
    for line in _trend_lines(found, names) if asked.trend else _lines(found, names):
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
    yield from _legend(told, names)
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
        yield f"    python -m harness.history --bisect {item.series.name}"


def _trend_lines(found: Sequence[Finding], names: StackNames) -> Iterator[str]:
    for item in found:
        levels = trend.levels(item.series)
        yield f"{names.label(item.series.label)}, {item.series.phase}: {len(levels) or 'too few points for a'} level(s)"
        for level in levels:
            first, last = level.points[0], level.points[-1]
            yield (
                f"    {level.speedup:.3f}x  {first.at} to {last.at}, {len(level.points)} points, "
                f"commits {first.commit[:12]} to {last.commit[:12]}"
            )
    yield from _legend(found, names)


def _named(found: Sequence[Finding], name: str) -> Finding:
    for item in found:
        if item.series.name == name:
            return item
    raise UserError(f"no series '{name}': `python -m harness.history` lists KEY:PHASE of each alarm")


def _step(item: Finding) -> tuple[Point, Point]:
    """The last point before the step and the first after it."""
    if item.last_good is None or item.first_bad is None:
        raise UserError(f"{item.series.name} is {item.standing}: there is no step to accept or to bisect")
    return item.last_good, item.first_bad


def _accepted(item: Finding, asked: argparse.Namespace, today: date) -> Accepted:
    missing = [name for name in ("owner", "reason", "expires") if not getattr(asked, name)]
    if missing:
        raise UserError(f"an acceptance needs --{' --'.join(missing)}: who, why and until when")
    _, first = _step(item)
    try:
        return Accepted(
            key=item.series.key,
            phase=item.series.phase,
            fingerprint=first.fingerprint,
            since=first.at,
            commit=first.commit,
            owner=asked.owner,
            reason=asked.reason,
            made=today,
            expires=asked.expires,
        )
    except ValueError as error:
        raise UserError(f"an acceptance cannot be made: {error}") from None


def _bisect(item: Finding, asked: argparse.Namespace, overrides: Sequence[str], err: TextIO) -> str:
    good, bad = (point.commit for point in _step(item))
    if good == bad:
        raise UserError(f"{item.series.name} changed within commit {good[:12]}: no commit made it slower")
    words = [*item.series.ask, *overrides]
    found = bisect(asked.repository, good, bad, item.series.phase, words, asked.rounds, err)
    return f"{found.commit} made {item.series.label}, {item.series.phase} slower: {step.told(found.effect)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.history", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("benchmark_results"), help="folder of run files")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--trend", action="store_true", help="every change of level")
    action.add_argument("--bisect", metavar="KEY:PHASE", help="find the commit; words after -- go to python -m harness")
    action.add_argument("--accept", metavar="KEY:PHASE", help="take the new level as the one to hold")
    parser.add_argument("--owner", help="of an acceptance")
    parser.add_argument("--reason", help="of an acceptance")
    parser.add_argument("--expires", type=date.fromisoformat, help="day on which an acceptance ends, YYYY-MM-DD")
    rounds = f"of a bisection's step, which takes up to {step.LOOKS} times as many; {ROUNDS} by default"
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=rounds)
    parser.add_argument("--repository", type=Path, default=CODE, help="of the commits")
    return parser


if __name__ == "__main__":
    sys.exit(main())
