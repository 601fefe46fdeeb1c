"""`python -m harness.shards`: how a plan divides into shards, and whether shards of the tests ran every test once."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, TextIO

from harness import cost, shard_plan
from harness.errors import HarnessError, UnknownName, UserError
from harness.split import Group, imbalance

if TYPE_CHECKING:
    from harness.session import Planned

TESTS = Path(__file__).resolve().parents[1] / "test_shards" / "tests.json"


def main(arguments: Sequence[str] | None = None, out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    """0: shown or proven. 1: a test ran in no shard or in two. 2: a mistake in what was asked."""
    parser = argparse.ArgumentParser(prog="python -m harness.shards", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="the balance of the plan of each kind of machine (test_shards/plans.yaml)")
    plan.add_argument("kinds", nargs="*", help="kinds of machines; all of them where none is named")
    plan.add_argument("--plans", type=Path, default=shard_plan.PLANS, help="another file of plans")
    show = commands.add_parser("show", help="the cases of each shard of a sweep, and the balance")
    show.add_argument("count", type=int, help="how many shards")
    show.add_argument("overrides", nargs="+", help="the sweep, as after `python -m harness -m`")
    learn = commands.add_parser("learn", help="take the durations of finished runs, for later plans to balance by")
    learn.add_argument("runs", type=Path, nargs="+", help="run files, or folders that hold them")
    learn.add_argument("--durations", type=Path, help="the file to bring up to date (test_shards/durations.json)")
    verify = commands.add_parser("verify", help="every collected test ran in exactly one shard")
    verify.add_argument("collected", type=Path, help="node ids, one a line, as of `pytest --collect-only -q`")
    verify.add_argument("executed", type=Path, nargs="+", help="node ids that a shard ran, one file a shard")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "plan":
            return _plan(chosen.kinds, shard_plan.read(chosen.plans), out)
        if chosen.command == "show":
            return _show(chosen.count, chosen.overrides, out)
        if chosen.command == "learn":
            return _learn(chosen.runs, chosen.durations, out)
        return _verify(_node_ids(chosen.collected), [_node_ids(path) for path in chosen.executed], out)
    except HarnessError as error:
        print(f"error: {' '.join(str(error).split())}", file=err)
        return 2


def _whole(overrides: Sequence[str]) -> Planned:
    from harness import compose, session
    from harness.__main__ import world

    return session.planned(compose.jobs(overrides, multirun=True), compose.known_hardware(), world(), sweep=True)


def _plan(kinds: Sequence[str], plans: Mapping[str, shard_plan.ShardPlan], out: TextIO) -> int:
    from harness import session

    for kind in kinds:
        if kind not in plans:
            raise UnknownName("kind of machine", kind, plans)
    known = cost.read_durations(session.DURATIONS)
    for kind in kinds or plans:
        whole = _whole(plans[kind].sweep)
        groups = session.groups(whole, plans[kind].shards)
        recorded = sum(cost.name(case) in known for case in whole.plan.cases)
        print(
            f"{kind}: {len(whole.plan.cases)} cases in {len(groups)} shards, {recorded} of recorded duration, longest "
            f"about {max(group.load_s for group in groups):.0f} s, over the mean {imbalance(groups):.3f}",
            file=out,
        )
        print(f"  {shlex.join(['python', '-m', 'harness', '-m', *plans[kind].sweep])} shard=I/{len(groups)}", file=out)
    return 0


def _show(count: int, overrides: Sequence[str], out: TextIO) -> int:
    from harness import session

    if count < 1:
        raise UserError(f"{count} shards: there must be one at least")
    whole = _whole(overrides)
    groups = session.groups(whole, count)
    labels = {case.key: whole.names.label(case.label()) for case in whole.plan.cases}
    for index, group in enumerate(groups, start=1):
        print(f"shard {index}/{count}: {len(group.keys)} cases, about {group.load_s:.0f} s", file=out)
        for key in group.keys:
            print(f"  {key} {whole.costs_s[key]:6.0f} s  {labels[key]}", file=out)
    for named in whole.names.legend(case.label() for case in whole.plan.cases):
        print(named.sentence(), file=out)
    print(f"plan {whole.plan.hash}: longest shard over the mean {imbalance(groups):.3f}", file=out)
    return 0


def _learn(runs: Sequence[Path], path: Path | None, out: TextIO) -> int:
    from harness import merge, session
    from harness.run_file import read_file

    path = path or session.DURATIONS
    files = [read_file(path) for path in merge.run_files(runs)]
    each = {digest: record for file in files for digest, record in zip(file.hashes, file.records, strict=True)}
    records = list(each.values())
    before = cost.read_durations(path)
    after = cost.learned(before, records)
    changed = sum(before.get(case) != seconds for case, seconds in after.items())
    if changed:
        cost.write_durations(path, after)
    print(f"{changed} of {len(after)} durations learned from {len(records)} records: {path}", file=out)
    return 0


def _node_ids(path: Path) -> list[str]:
    """Lines that are node ids; pytest's summary lines are not."""
    if not path.is_file():
        raise UserError(f"no list of tests at {path}: its shard never reported")
    return [line for line in path.read_text().splitlines() if "::" in line]


def _verify(collected: Sequence[str], shards: Sequence[Sequence[str]], out: TextIO) -> int:
    if not collected:
        raise UserError("no test was collected: nothing would be proven")
    ran = Counter(test for shard in shards for test in shard)
    wrong = [f"never ran: {test}" for test in collected if not ran[test]]
    wrong += [f"ran {times} times: {test}" for test, times in ran.items() if times > 1]
    wrong += [f"ran and was not collected: {test}" for test in ran.keys() - set(collected)]
    for line in sorted(wrong):
        print(line, file=out)
    print(f"{len(collected)} collected, {len(ran)} ran in {len(shards)} shard(s), {len(wrong)} wrong", file=out)
    print(_balance_of_tests(shards, cost.read_durations(TESTS)), file=out)
    return 1 if wrong else 0


def _balance_of_tests(shards: Sequence[Sequence[str]], seconds: Mapping[str, float]) -> str:
    """A test of unknown duration counts as an average one, as pytest-split counts it."""
    usual = fmean(seconds.values()) if seconds else 1.0
    groups = [Group(tuple(tests), sum(seconds.get(test, usual) for test in tests)) for tests in shards]
    known = sum(test in seconds for tests in shards for test in tests)
    return f"{known} of recorded duration, longest shard over the mean {imbalance(groups):.3f}"


if __name__ == "__main__":
    sys.exit(main())
