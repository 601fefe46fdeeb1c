"""What the command of the front page prints at its end, from the newest committed record of it."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from harness.analysis.compare.arms import arms
from harness.analysis.outcome import Outcome
from harness.errors import HarnessError
from harness.report.console import print_outcome
from tools.repository import Repository
from tools.timings import stack_names

MODEL, HARDWARE, TIMING = "qwen3_coder_30b", "cpu", "quick"
BORDER = "+-"


def verdict(repository: Repository) -> str:
    """Return the table, the coverage and the path of their record as a block of code. HarnessError without a record."""
    cases = ((evidence, evidence.record.case) for evidence in repository.passed if evidence.record.series)
    found = [e for e, c in cases if (c.model, c.hardware, c.timing.name) == (MODEL, HARDWARE, TIMING)]
    if not found:
        raise HarnessError(f"no record of {MODEL} timed on a CPU is committed: the front page could show no verdict")
    newest = max(found, key=lambda evidence: evidence.record.started_at)
    printed = StringIO()
    outcome = Outcome((newest.record,), {newest.record.key: arms(newest.record)})
    print_outcome(outcome, Path(newest.path), (), printed, stack_names())
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    table = [line for line in lines if line.startswith(("|", BORDER))]
    coverage = next(line for line in lines if " planned = " in line)
    return "\n".join(["```", *table[1:-1], coverage, f"records: {newest.path}", "```"]) + "\n"
