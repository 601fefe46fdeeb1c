"""`python -m harness.signoff +model=NAME hardware=NAME [policy=NAME] [waiver=FILE]`: may this optimization ship?

The grammar is that of `python -m harness`: model, size, optimization, hardware and workload name the case, `out` the
folder of records, `reports` where the document goes. `--verify FILE [out=RECORDS] [waiver=FILE]` reads the records, the
policy and the waivers again, asks git for the commit, decides again, and compares the decision with FILE, a
`signoff.json`; a page beside it that renders another document is refused too. Exit code 0: signed (or verified). 1:
refused, with what is missing and the command that would supply it (or not what it says). 2: a mistake in the request.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from harness import compose, registry
from harness.case import Case
from harness.environment import holds
from harness.errors import RecordError, UnknownName, UserError
from harness.gate_records import read
from harness.hardware import probe
from harness.history import accepted
from harness.place import Cluster
from harness.plan import expand
from harness.settings import Settings
from harness.signoff import document, policy, verification
from harness.signoff.decision import Decision, decide
from harness.signoff.evidence import Evidence, gather
from harness.signoff.policy import Waiver

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    try:
        if not arguments or "--help" in arguments:
            print(__doc__, file=out)
            return 0 if arguments else 2
        if arguments[0] == "--verify":
            return _verify(arguments[1:], out)
        return _decide(arguments, out)
    except RecordError as error:
        print(f"refused: {error}", file=err)
        return 1
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=err)
        return 2


def _decide(arguments: Sequence[str], out: TextIO) -> int:
    overrides, own = _own(arguments, ("policy", "waiver"))
    jobs = compose.jobs(overrides, multirun=False)
    rules = policy.policy(own["policy"][-1] if own["policy"] else "default")
    waivers = [policy.waiver(Path(path)) for path in own["waiver"]]
    (case,) = _cases(jobs)
    asked = jobs[0]
    now = datetime.now(UTC).replace(microsecond=0)
    decision = decide(_evidence(case, Path(asked.out), now), rules, waivers, now)
    written = document.write(decision, Path(asked.reports) / f"signoff-{now:%Y%m%dT%H%M%S}-{decision.case.key}")
    _print(decision, written, out)
    return 0 if decision.signed else 1


def _verify(arguments: Sequence[str], out: TextIO) -> int:
    overrides, own = _own(arguments, ("out", "waiver"))
    if len(overrides) != 1:
        raise UserError("--verify takes one file: the signoff.json of a document")
    path = Path(overrides[0])
    records = Path(own["out"][-1] if own["out"] else "benchmark_results")
    asked = document.question(path)
    _backed(asked, path, [policy.waiver(Path(given)) for given in own["waiver"]])
    evidence = _evidence(asked.case, records, asked.decided_at)
    if evidence.newest and evidence.commit_held is None:
        print(f"{ROOT.name} is no git checkout: whether the commit exists was not asked", file=out)
    decision = decide(evidence, asked.policy, asked.waivers, asked.decided_at)
    found = verification.verify(decision, path)
    for sentence in found.refusals:
        print(f"refused: {sentence}", file=out)
    for sentence in found.notes:
        print(f"note: {sentence}", file=out)
    if not found.refusals:
        word = "signed" if decision.signed else "refused"
        print(f"verified: {word}, by {len(decision.records)} record(s) under {records}", file=out)
    return 1 if found.refusals else 0


def _backed(asked: document.Question, path: Path, given: Sequence[Waiver]) -> None:
    """RecordError unless policy and waivers are those of their own files: a document cannot vouch for its own rules."""
    try:
        rules = policy.policy(asked.policy.name)
    except UnknownName as error:
        raise RecordError(f"{path}: {error}") from None
    if asked.policy != rules:
        raise RecordError(f"{path}: its policy is not what conf/policy/{rules.name}.yaml asks")
    if set(asked.waivers) != set(given):
        owners = ", ".join(waiver.owner for waiver in asked.waivers) or "nobody"
        raise RecordError(f"{path} rests on waivers of {owners}, and waiver=FILE names others: name those, each once")


def _evidence(case: Case, records: Path, until: datetime) -> Evidence:
    found = gather(case, read(records), accepted.read(records), until)
    environment = found.newest.record.environment if found.newest else None
    return replace(found, commit_held=holds(ROOT, environment.commit)) if environment else found


def _own(arguments: Sequence[str], names: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """What is not Hydra's, by name, apart from what is."""
    own: dict[str, list[str]] = {name: [] for name in names}
    rest = []
    for word in arguments:
        name, equals, value = word.partition("=")
        if equals and name in own:
            own[name].append(value)
        else:
            rest.append(word)
    return rest, own


def _cases(jobs: Sequence[Settings]) -> tuple[Case, ...]:
    specs = {job.model.name: registry.load(job.model.name) for job in jobs}
    plan = expand(jobs, specs, Cluster(probe().memory_bytes), registry.weights_bytes, registry.uneven, sweep=False)
    return plan.cases


def _print(decision: Decision, written: Sequence[Path], out: TextIO) -> None:
    from rich import box
    from rich.table import Table

    from harness.console import terminal

    table = Table("requirement", "", "found", box=box.ROUNDED if out.isatty() else box.ASCII2, header_style="bold")
    for finding in decision.findings:
        state = "met" if finding.met else "waived" if finding.waived else "MISSING"
        table.add_row(finding.requirement, state, finding.found)
    terminal(out).print(table)
    for supply in dict.fromkeys(finding.supply for finding in decision.refusals() if finding.supply):
        print(f"missing; this would supply it: {supply}", file=out)
    for path in written:
        print(f"document: {path}", file=out)
    print(f"{'signed' if decision.signed else 'refused'}: {decision.case.label()}", file=out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
