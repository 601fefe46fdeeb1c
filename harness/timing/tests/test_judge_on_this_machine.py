"""The protocol and the judge on the real clock of this CPU, whatever else it is doing: arms that are equal, and one
that does a twentieth more work."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from harness.analysis.compare.arms import arms
from harness.analysis.compare.estimate import Estimate
from harness.records.case import Case, TimingSettings, WorkloadShape
from harness.records.checks import Check, Parity
from harness.records.record import Record
from harness.timing.clock import CpuClock
from harness.timing.protocol import Measured, Timed, measure
from harness.timing.telemetry import NoTelemetry

RUNS = 40
REPEATS = 40
ROUNDS = 6
QUICK = TimingSettings(
    name="quick", processes=1, min_blocks=12, max_blocks=40, half_width=0.01, margin=0.02, limit_s=0.5
)
LONG = TimingSettings(
    name="long", processes=1, min_blocks=40, max_blocks=600, half_width=0.008, margin=0.02, limit_s=15.0
)
RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.0, noise=1.0, limit=1.0),))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def work(name: str, repeats: int) -> Timed:
    """About two milliseconds of small products."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 96, 96, generator=generator)
    out = torch.empty_like(left)

    def run() -> None:
        for _ in range(repeats):
            torch.mm(left, right, out=out)

    return Timed(name, run, lambda: None, 1)


def measured(candidate_repeats: int, settings: TimingSettings, process: int, seed: int) -> Measured:
    """The candidate beside the reference, now."""
    timed = (work("reference", REPEATS), work("candidate", candidate_repeats), work("again", candidate_repeats))
    return measure("decode", timed, lambda: None, CpuClock(torch.device("cpu")), settings, process, NoTelemetry(), seed)


def judged(rounds: Sequence[Measured], settings: TimingSettings, seed: int) -> Estimate:
    """The candidate against the reference, each round as a process."""
    shape = WorkloadShape(name="w", batch=1, prompt_tokens=1, new_tokens=1, dtype="float32")
    words = {"model": "m", "size": "tiny", "optimizations": (), "hardware": "cpu", "arms": ("reference",)}
    case = Case(workload=shape, timing=settings, seed=seed, deadline_s=60.0, **words)
    ends = {"status": "passed", "started_at": "now", "wall_s": 1.0, "parity": RIGHT}
    taken = {"series": sum((made.series for made in rounds), ()), "blocks": sum((made.blocks for made in rounds), ())}
    record = Record(run="r", plan="p", case=case, key=case.key, **taken, **ends)
    return arms(record)[0].against[0].estimate


def test_equal_arms_are_never_told_apart() -> None:
    found = [judged([measured(REPEATS, QUICK, 0, seed)], QUICK, seed) for seed in range(RUNS)]
    false = [f"{one.verdict} {one.speedup:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found
             if one.verdict in ("faster", "slower")]  # fmt: skip
    assert false == []


def test_a_twentieth_more_work_is_slower() -> None:
    """On a busy machine it takes more rounds; one that is too busy to see 5 % in all of them fails this test."""
    rounds: list[Measured] = []
    while len(rounds) < ROUNDS:
        rounds.append(measured(round(REPEATS * 1.05), LONG, len(rounds), 0))
        found = judged(rounds, LONG, 0)
        if found.verdict != "inconclusive":
            break
    said = f"{found.speedup:.3f} [{found.low:.3f}, {found.high:.3f}] after {found.n} pairs: {found.reasons}"
    assert found.verdict == "slower", said
    assert found.low < 1 / 1.05 < found.high or abs(found.speedup * 1.05 - 1) < 0.01, said
