"""The protocol and the judge on the real clock of this CPU, whatever else it is doing: arms that are equal, and one
that does a twentieth more work."""

from __future__ import annotations

import math

import pytest
import torch

from harness.case import Case, TimingSettings, WorkloadShape
from harness.checks import Check, Parity
from harness.compare.arms import arms
from harness.compare.estimate import Estimate
from harness.record import Record
from harness.timing.clock import CpuClock
from harness.timing.protocol import Timed, measure
from harness.timing.telemetry import NoTelemetry

RUNS = 40
REPEATS = 40
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


def judged(candidate_repeats: int, settings: TimingSettings, seed: int) -> Estimate:
    """The candidate against the reference, measured now."""
    timed = (work("reference", REPEATS), work("candidate", candidate_repeats), work("again", candidate_repeats))
    made = measure("decode", timed, CpuClock(torch.device("cpu")), settings, 0, NoTelemetry(), seed)
    shape = WorkloadShape(name="w", batch=1, prompt_tokens=1, new_tokens=1, dtype="float32")
    words = {"model": "m", "size": "tiny", "optimizations": (), "hardware": "cpu", "arms": ("reference",)}
    case = Case(workload=shape, timing=settings, seed=seed, deadline_s=60.0, **words)
    ends = {"status": "passed", "started_at": "now", "wall_s": 1.0, "parity": RIGHT}
    record = Record(run="r", plan="p", case=case, key=case.key, series=made.series, blocks=made.blocks, **ends)
    return arms(record)[0].against[0].estimate


def test_equal_arms_are_never_told_apart() -> None:
    found = [judged(REPEATS, QUICK, seed) for seed in range(RUNS)]
    false = [f"{one.verdict} {one.speedup:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found
             if one.verdict in ("faster", "slower")]  # fmt: skip
    assert false == []


def test_a_twentieth_more_work_is_slower() -> None:
    found = judged(round(REPEATS * 1.05), LONG, 0)
    half_width = math.log(found.high / found.low) / 2
    if found.verdict == "inconclusive" and half_width > LONG.half_width:
        pytest.skip(
            f"too much else runs on this machine to see 5 %: the interval is ±{half_width:.1%} after {found.n} pairs"
        )
    assert found.verdict == "slower"
    assert found.low < 1 / 1.05 < found.high or abs(found.speedup * 1.05 - 1) < 0.01
