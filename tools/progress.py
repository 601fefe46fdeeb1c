"""How the time of a workload went down, commit by commit, as the committed records tell it."""

from __future__ import annotations

from harness.report.formats import milliseconds
from tools.repository import Repository, markdown_table
from tools.results import DEVICE
from tools.timings import Timing, against, model, speedup, stack, timings

WORKLOAD, PEER = "standard", "hf_max_autotune"


def tables(repository: Repository) -> str:
    """Return a row for each timing of the workload against the peer on one device, by model, in the order of time."""
    found = [t for t in timings(repository.passed, DEVICE) if t.case.workload.name == WORKLOAD and PEER in t.case.arms]
    found.sort(key=lambda timing: (timing.case.model, timing.case.size))
    heads = (
        "model",
        "date",
        "commit",
        "stack",
        "decode step",
        "over the strongest",
        "prefill",
        "over the strongest",
        "",
    )
    return markdown_table(heads, [_row(timing) for timing in found])


def _row(timing: Timing) -> list[str]:
    record = timing.evidence.record
    commit = record.environment.commit[:8] if record.environment else "not known"
    cells = [model(timing.case), record.started_at[:10], f"`{commit}`", stack(timing.case)]
    for name in ("decode", "prefill"):
        phase = timing.phase(name)
        strongest = against(phase)
        cells += [milliseconds(phase.candidate_ms), f"{speedup(strongest.estimate)} `{strongest.arm}`"]
    return [*cells, timing.evidence.link()]
