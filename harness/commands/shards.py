"""`python -m harness shards`: how a plan divides into shards, and whether shards of the tests ran every test once."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, TextIO

from harness.commands.options import Option, Usage
from harness.errors import UnknownName, UserError
from harness.machine.installation import WORK
from harness.planning import cost, shard_plans
from harness.planning.sharding import Group, imbalance

if TYPE_CHECKING:
    from harness.execution.session import Planned

TESTS = WORK / "test_shards" / "tests.json"


USAGE = Usage(
    "shards",
    """python -m harness shards plan [KIND ...] [plans=FILE]       the balance of each kind of machine's plan
python -m harness shards show COUNT +model=X ...            the cases of each shard of a sweep, and the balance
python -m harness shards learn RUN ... [durations=FILE]     take the durations of finished runs, to balance by
python -m harness shards verify COLLECTED EXECUTED ...      every collected test ran in exactly one shard

RUN is a run file or a folder that holds some. COLLECTED and EXECUTED list node ids, one a line.
Exit code 0: shown or proven. 1: a test ran in no shard or in two. 2: a mistake in what was asked.""",
    (
        Option("plans", "another file of plans", shard_plans.PLANS, Path),
        Option("durations", "the file to bring up to date (test_shards/durations.json)", None, Path),
    ),
    overrides=True,
    words=range(1, 100_000),
)
help_text = USAGE.help
FORMS = ("plan", "show", "learn", "verify")


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    asked = USAGE.read(arguments)
    form, *words = asked.words
    if form not in FORMS:
        raise UnknownName("form of shards", form, FORMS)
    if asked.overrides and form != "show":
        raise UserError(f"shards {form} takes no {asked.overrides[0]}: it is about no sweep")
    if form == "plan":
        return _plan(words, shard_plans.read(asked["plans"]), out)
    if form == "show":
        if len(words) != 1 or not words[0].isdecimal() or not asked.overrides:
            raise UserError("shards show COUNT +model=X ...: how many shards, and of which sweep")
        return _show(int(words[0]), asked.overrides, out)
    if form == "learn":
        if not words:
            raise UserError("shards learn RUN ...: the runs to learn from")
        return _learn([Path(word) for word in words], asked["durations"], out)
    if len(words) < 2:
        raise UserError("shards verify COLLECTED EXECUTED ...: the list of all tests, and one of each shard")
    return _verify(_node_ids(Path(words[0])), [_node_ids(Path(word)) for word in words[1:]], out)


def _whole(overrides: Sequence[str]) -> Planned:
    from harness.commands.services import services
    from harness.execution import session
    from harness.planning import compose

    return session.planned(compose.jobs(overrides, multirun=True), compose.known_hardware(), services(), sweep=True)


def _plan(kinds: Sequence[str], plans: Mapping[str, shard_plans.ShardPlan], out: TextIO) -> int:
    from harness.execution import session

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
    from harness.execution import session

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
    from harness.commands import merge
    from harness.execution import session
    from harness.records.run_file import read_file

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
