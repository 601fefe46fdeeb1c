"""The tables of how the gate itself was judged: planted faults, calibration, timers, and the harness at scale."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from harness.records.calibration import Calibration
from harness.report.formats import significant
from tools.repository import Evidence, Repository, markdown_table
from tools.timings import stack

CALIBRATIONS = "benchmark_results/calibration/*.json"
TIMERS = "benchmark_results/cross_check/*.json"
SCALE = "benchmark_results/scale/*.json"


def faults(repository: Repository) -> str:
    """Return the newest kill matrix of each model, hardware and stack."""
    judged = (e for e in repository.passed if e.record.kill_matrix)
    ordered = sorted(judged, key=lambda e: e.record.started_at)
    last = {(e.record.case.hardware, e.record.case.model, e.record.case.optimizations): e for e in ordered}
    heads = (
        "hardware",
        "model",
        "type",
        "stack",
        "refused",
        "of them by a crash",
        "equivalent or no place",
        "commit",
        "",
    )
    rows = [_fault_row(e) for _, e in sorted(last.items(), key=lambda item: item[0][:2])]
    return markdown_table(heads, rows)


def _fault_row(evidence: Evidence) -> list[str]:
    record = evidence.record
    matrix, case = record.kill_matrix, record.case
    assert matrix is not None
    commit = record.environment.commit[:8] if record.environment else "not known"
    return [
        case.hardware,
        f"`{case.model}`",
        case.workload.dtype,
        stack(case),
        f"{len(matrix.killed)} of {matrix.judged}",
        str(len(matrix.crashed)),
        str(len(matrix.outcomes) - matrix.judged),
        f"`{commit}`",
        evidence.link(),
    ]


def calibration(repository: Repository) -> str:
    """Return how many right answers each newest calibration refused, by model and kind of device."""
    read = [(path, Calibration.model_validate_json(repository.text(path))) for path in repository.files(CALIBRATIONS)]
    # A file is named by its time.
    last = {(found.device, found.model): (path, found) for path, found in read}
    rows = [_calibration_row(path, found) for _, (path, found) in sorted(last.items())]
    heads = ("device", "model", "plain code refused", "kernels refused, float32", "float16", "bfloat16", "")
    return markdown_table(heads, rows)


def _calibration_row(path: str, found: Calibration) -> list[str]:
    judged, refused = Counter[str](), Counter[str]()
    for one in found.kernels:
        judged[one.dtype] += one.n
        refused[one.dtype] += one.refused
    kernels = [
        f"{refused[dtype]} of {judged[dtype]:,}" if judged[dtype] else "not judged"
        for dtype in ("float32", "float16", "bfloat16")
    ]
    plain = f"{sum(rule.false_alarms for rule in found.rules)} of {sum(rule.n for rule in found.rules):,}"
    return [found.device, f"`{found.model}`", plain, *kernels, f"[calibration]({path})"]


def timers(repository: Repository) -> str:
    """Return the newest comparison of our kernel timer with others: how much longer they read."""
    path = repository.files(TIMERS)[-1]
    agreements = json.loads(repository.text(path))["agreements"]
    names = [other["timer"] for other in agreements[0]["others"]]
    rows = [
        [
            f"`{one['kernel']}`",
            one["case"],
            f"{1e3 * one['ours_ms']:.1f} us",
            *(_longer(one["ours_ms"], other) for other in one["others"]),
        ]
        for one in agreements
    ]
    return f"{markdown_table(('kernel', 'case', 'ours', *names), rows)}\n[record]({path})\n"


def _longer(ours_ms: float, other: dict[str, Any]) -> str:
    return str(other["absent"]) if other["median_ms"] is None else f"{other['median_ms'] / ours_ms - 1:+.1%}"


def scale(repository: Repository) -> str:
    """Return the figures of the harness itself at scale, as the benchmarks wrote them."""
    rows = []
    for path in repository.files(SCALE):
        content = json.loads(repository.text(path))
        commit = content["environment"]["commit"][:8]
        told = "; ".join(f"{name} {_figure(value)}" for name, value in content["figures"].items())
        rows.append([path.rsplit("-", 1)[1].removesuffix(".json"), told, f"`{commit}`", f"[record]({path})"])
    return markdown_table(("what", "figures", "commit", ""), rows)


def _figure(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_figure(each)}" for name, each in value.items())
    return significant(value) if isinstance(value, float) else str(value)
