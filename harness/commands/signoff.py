"""`python -m harness signoff +model=X hardware=NAME`: may this optimization ship?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from harness.analysis.history import accepted
from harness.build import registry
from harness.commands.options import RECORDS, Asked, Option, Usage
from harness.errors import RecordError, UnknownName, UserError
from harness.machine.environment import holds
from harness.machine.hardware import probe
from harness.machine.installation import WORK
from harness.planning import compose
from harness.planning.hardware_target import Cluster
from harness.planning.plan import expand
from harness.planning.settings import Settings
from harness.records.case import Case
from harness.records.gate_evidence import read
from harness.signoff import document, policy, verification
from harness.signoff.decision import Decision, decide
from harness.signoff.evidence import Evidence, gather
from harness.signoff.policy import Waiver

USAGE = Usage(
    "signoff",
    """python -m harness signoff +model=X hardware=NAME [policy=NAME] [waiver=FILE] ...
python -m harness signoff verify=signoff.json [out=RECORDS] [waiver=FILE] ...

May this optimization ship? The grammar is that of `python -m harness`: model, size, optimization, hardware and workload
name the case. `verify` reads the records, the policy and the waivers again, asks git for the commit, decides again, and
compares the decision with that of the file. A page beside it that renders another document is refused, too.

Exit code 0: signed, or verified. 1: refused, with what is missing and the command that would supply it, or not what the
document says. 2: a mistake in what was asked.""",
    (
        Option("policy", "of conf/policy", "default"),
        Option("waiver", "a file that answers for what is not met; may be given again", (), Path, repeats=True),
        Option("verify", "the signoff.json of a document", None, Path),
        Option("out", "folder of records", RECORDS, Path),
        Option("reports", "where the document goes", Path("reports"), Path),
    ),
    overrides=True,
)
help_text = USAGE.help


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    asked = USAGE.read(arguments)
    try:
        return _verify(asked, out) if asked["verify"] else _decide(asked, out)
    except RecordError as error:
        print(f"refused: {error}", file=err)
        return 1


def _decide(asked: Asked, out: TextIO) -> int:
    jobs = compose.jobs(asked.overrides, multirun=False)
    rules = policy.policy(asked["policy"])
    waivers = [policy.waiver(path) for path in asked["waiver"]]
    (case,) = _cases(jobs)
    now = datetime.now(UTC).replace(microsecond=0)
    decision = decide(_evidence(case, asked["out"], now), rules, waivers, now)
    written = document.write(decision, asked["reports"] / f"signoff-{now:%Y%m%dT%H%M%S}-{decision.case.key}")
    _print(decision, written, out)
    return 0 if decision.signed else 1


def _verify(asked: Asked, out: TextIO) -> int:
    if asked.overrides:
        raise UserError(f"signoff verify=FILE reads the case from the file: it takes no {asked.overrides[0]}")
    path, records = asked["verify"], asked["out"]
    question = document.question(path)
    _backed(question, path, [policy.waiver(given) for given in asked["waiver"]])
    evidence = _evidence(question.case, records, question.decided_at)
    if evidence.newest and evidence.commit_held is None:
        print(f"{WORK.resolve().name} is no git checkout: whether the commit exists was not asked", file=out)
    decision = decide(evidence, question.policy, question.waivers, question.decided_at)
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
    return replace(found, commit_held=holds(WORK, environment.commit)) if environment else found


def _cases(jobs: Sequence[Settings]) -> tuple[Case, ...]:
    specs = {job.model.name: registry.load(job.model.name) for job in jobs}
    plan = expand(jobs, specs, Cluster(probe().memory_bytes), registry.weights_bytes, registry.indivisible, sweep=False)
    return plan.cases


def _print(decision: Decision, written: Sequence[Path], out: TextIO) -> None:
    from rich import box
    from rich.table import Table

    from harness.report.console import terminal

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
