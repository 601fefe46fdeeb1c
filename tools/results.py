"""The tables of speeds: signed releases, and the newest timing of each model, workload and set of arms."""

from __future__ import annotations

import json
from collections.abc import Iterable

from harness.report.formats import milliseconds
from tools.repository import Repository, markdown_table
from tools.timings import HEADS, Timing, against, model, of_ceiling, rows, speedup, timings

DEVICE, SEVERAL = "h200", "h200_x2"
SIGNOFFS = "reports/signoff-*/signoff.json"


def headline(repository: Repository) -> str:
    """Return a row for each signed release, and one for the model that gains most from a second device."""
    signed_rows = [
        [*_brief(timing), f"[signed{_waived(document)}]({path.replace('.json', '.md')}), {timing.evidence.link()}"]
        for path, document, timing in _signed(repository)
    ]
    several = [t for t in _newest(timings(repository.passed, SEVERAL)) if "one_device" in t.case.arms]
    best = max(several, key=lambda timing: against(timing.phase("decode")).estimate.speedup)
    heads = ("model", "parity checks", "decode step", "speed-up", "prefill", "speed-up", "evidence")
    return markdown_table(heads, [*signed_rows, [*_brief(best), f"first look, {best.evidence.link()}"]])


def signed(repository: Repository) -> str:
    """Return a row for each phase of each signed release."""
    found = []
    for path, document, timing in _signed(repository):
        first = [model(timing.case), timing.checks]
        for phase in timing.phases:
            strongest = against(phase)
            name = f"`{strongest.arm}` {speedup(strongest.estimate)}"
            evidence = f"[signed{_waived(document)}]({path.replace('.json', '.md')}), {timing.evidence.link()}"
            found.append([*first, phase.phase, milliseconds(phase.candidate_ms), name, of_ceiling(phase), evidence])
            first = ["", ""]
    heads = ("model", "parity checks", "phase", "candidate", "over the strongest arm", "of the ceiling", "evidence")
    return markdown_table(heads, found)


def one_device(repository: Repository) -> str:
    """Return the newest timings on one device that no release rests on."""
    released = {timing.evidence.path for _, _, timing in _signed(repository)}
    newest = _newest(t for t in timings(repository.passed, DEVICE) if t.evidence.path not in released)
    return markdown_table(HEADS, [row for timing in newest for row in rows(timing)])


def several_devices(repository: Repository) -> str:
    """Return the newest timings on two devices."""
    newest = _newest(timings(repository.passed, SEVERAL))
    return markdown_table(HEADS, [row for timing in newest for row in rows(timing)])


def _signed(repository: Repository) -> list[tuple[str, dict[str, object], Timing]]:
    """Return path, content and timing of every sign-off that was signed, by model."""
    timed = timings(repository.passed, DEVICE)
    found = []
    for path in repository.files(SIGNOFFS):
        document = json.loads(repository.text(path))
        if document["signed"]:
            named = {(f"benchmark_results/{record['path']}", record["key"]) for record in document["records"]}
            found.append((path, document, next(t for t in timed if (t.evidence.path, t.evidence.record.key) in named)))
    return sorted(found, key=lambda item: item[2].case.model)


def _waived(document: dict[str, object]) -> str:
    return ", one waiver" if document["waivers"] else ""


def _newest(found: Iterable[Timing]) -> list[Timing]:
    """Return the last of each model, size, workload and set of arms, by model and workload."""
    last = {(t.case.model, t.case.size, t.case.workload.name, t.case.arms): t for t in found}
    return sorted(last.values(), key=lambda t: (t.case.model, t.case.workload.name))


def _brief(timing: Timing) -> list[str]:
    where = "" if timing.case.hardware == DEVICE else ", two GPUs"
    cells = [model(timing.case) + where, timing.checks]
    for name in ("decode", "prefill"):
        phase = timing.phase(name)
        strongest = against(phase)
        cells += [milliseconds(phase.candidate_ms), f"{strongest.estimate.speedup:.2f}x `{strongest.arm}`"]
    return cells
