"""The judge's own false alarms and blind spots, on a simulated clock: series of a machine whose truth is known.

Every trial goes the public way: samples and blocks as a record holds them -> `arms` -> the verdict against the
reference. The number of blocks is what the protocol of `conf/timing/standard.yaml` takes: fewest blocks, then on until
the interval is narrow.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import harness
from harness.analysis import stats
from harness.analysis.compare.arms import arms
from harness.records.case import Case, TimingSettings, WorkloadShape
from harness.records.checks import Check, Parity
from harness.records.record import Block, Record, Series

CONF = Path(harness.__file__).parents[1] / "conf" / "timing" / "standard.yaml"
RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.0, noise=1.0, limit=1.0),))
ARMS = ("reference", "candidate", "again")
TRIALS = 2000
MOST_BLOCKS = 60
STOP_EVERY = 5
"""Blocks between two looks at the interval's width; the protocol looks after each one."""
ALARMS = ("faster", "slower")


def protocol(kind, **changes):
    """The standard protocol of this kind of device, from its own file."""
    conf = yaml.safe_load(CONF.read_text())
    chosen = {name: conf[name][kind] for name in ("half_width", "margin")}
    return TimingSettings(**conf | chosen | {"max_blocks": MOST_BLOCKS} | changes)


@dataclass(frozen=True)
class Machine:
    """What disturbs a sample, each as the standard deviation of log time unless it says otherwise."""

    noise: float = 0.012
    correlation: float = 0.5
    """Of an arm's noise from one block to the next."""
    level: float = 0.13
    """Of a process, shared by its arms."""
    drift: float = 0.02
    """Of the random walk from block to block, shared by the arms of a block."""
    warming: float = 0.05
    """Growth of log time through a process: later samples of one block are slower too."""
    outliers: float = 0.05
    """Share of samples that are late by an exponential of mean 0.5."""
    throttled: float = 0.05
    """Share of blocks whose later arms run at two thirds of the clock."""
    odd_processes: float = 0.007
    """Of one process's true log ratio: its memory layout and compiled code."""


CPU = Machine()
GPU = Machine(noise=0.004, drift=0.005, warming=0.01, level=0.02, odd_processes=0.002, outliers=0.02)


def simulate(rng, machine, trials, processes, effect):
    """(log times [trial, process, block, arm], throttled [trial, process, block]); `effect` is the reference's lag."""
    shape = (trials, processes, MOST_BLOCKS)
    order = rng.permuted(np.broadcast_to(np.arange(3.0), (*shape, 3)), axis=-1)
    clock = np.arange(MOST_BLOCKS)[:, None] * 3 + order
    throttled = rng.random(shape) < machine.throttled
    log_ms = math.log(20) + rng.normal(0, machine.level, (trials, processes, 1, 1))
    log_ms = log_ms + rng.normal(0, machine.drift, (*shape, 1)).cumsum(axis=2) + machine.warming * clock / clock.max()
    log_ms += correlated(rng, (*shape, 3), machine.noise, machine.correlation)
    log_ms += np.where(rng.random((*shape, 3)) < machine.outliers, rng.exponential(0.5, (*shape, 3)), 0)
    log_ms += np.where(throttled[..., None] & (order >= rng.integers(0, 3, (*shape, 1))), math.log(1.5), 0)
    log_ms += rng.normal(0, machine.odd_processes / math.sqrt(2), (trials, processes, 1, 3))
    log_ms[..., 0] += effect
    return log_ms, throttled


def correlated(rng, shape, spread, correlation):
    steps = rng.normal(0, spread * math.sqrt(1 - correlation**2), shape)
    steps[:, :, 0] /= math.sqrt(1 - correlation**2)
    for block in range(1, shape[2]):
        steps[:, :, block] += correlation * steps[:, :, block - 1]
    return steps


def taken(log_ratios, kept, timing):
    """How many blocks of one process the protocol takes."""
    for blocks in range(timing.min_blocks, MOST_BLOCKS, STOP_EVERY):
        ratios = log_ratios[:blocks][kept[:blocks]]
        if ratios.size >= timing.min_blocks and stats.location(ratios).half_width <= timing.half_width:
            return blocks
    return MOST_BLOCKS


def as_case(timing):
    shape = WorkloadShape(name="w", batch=1, prompt_tokens=8, new_tokens=4, dtype="bfloat16")
    words = {"model": "m", "size": "tiny", "optimizations": ("rotary",), "hardware": "h", "arms": ("reference",)}
    return Case(workload=shape, timing=timing, seed=0, deadline_s=60.0, **words)


def as_record(case, log_ms, throttled):
    series, blocks = [], []
    for process, (times, slowed) in enumerate(zip(np.exp(log_ms), throttled, strict=True)):
        count = taken(log_ms[process, :, 0] - log_ms[process, :, 1], ~slowed, case.timing)
        for arm, samples in zip(ARMS, times[:count].T.tolist(), strict=True):
            series.append(
                Series(arm=arm, phase="decode", process=process, samples_ms=samples, blocks=tuple(range(count)))
            )
        for index, slow in enumerate(slowed[:count].tolist()):
            words = ("hardware thermal slowdown",) if slow else ()
            blocks.append(Block(process=process, index=index, phase="decode", throttle=words))
    ends = {"status": "passed", "started_at": "now", "wall_s": 1.0, "parity": RIGHT}
    return Record(run="r", plan="p", case=case, key=case.key, series=tuple(series), blocks=tuple(blocks), **ends)


def judged(machine, timing, trials, effect=0.0, seed=0):
    """The estimate against the reference, of each trial."""
    case = as_case(timing)
    drawn = simulate(np.random.default_rng(seed), machine, trials, timing.processes, effect)
    return [arms(as_record(case, *trial))[0].against[0].estimate for trial in zip(*drawn, strict=True)]


def share(estimates, *verdicts):
    return sum(found.verdict in verdicts for found in estimates) / len(estimates)


@pytest.mark.parametrize(
    ("machine", "timing"),
    [(CPU, protocol("cpu")), (GPU, protocol("cuda"))],
    ids=["cpu", "cuda"],
)
def test_equal_arms_raise_at_most_one_false_alarm_in_a_hundred(machine, timing):
    found = judged(machine, timing, TRIALS)
    assert share(found, *ALARMS) <= 0.01, Counter(one.verdict for one in found)
    assert share(found, "same") >= 0.75, "a judge that never decides raises no alarm either"


@pytest.mark.parametrize(
    "worse",
    [
        {"drift": 0.1, "warming": 0.5},
        {"outliers": 0.2},
        {"correlation": 0.9},
        {"throttled": 0.19},
        {"odd_processes": 0.02},
        {"noise": 0.05},
    ],
    ids=lambda worse: next(iter(worse)),
)
def test_no_single_disturbance_raises_alarms(worse):
    assert share(judged(replace(CPU, **worse), protocol("cpu"), 300), *ALARMS) <= 0.01


@pytest.mark.parametrize(
    ("machine", "timing", "change"),
    [(CPU, protocol("cpu"), 1.033), (GPU, protocol("cuda"), 1.0145)],
    ids=["cpu", "cuda"],
)
def test_a_change_is_found_three_times_in_four(machine, timing, change):
    for effect, verdict in ((math.log(change), "faster"), (-math.log(change), "slower")):
        found = judged(machine, timing, 200, effect)
        assert share(found, verdict) >= 0.75, Counter(one.verdict for one in found)


def test_a_change_just_beyond_the_margin_is_not_promised():
    """+2.2 % against the CPU protocol's margin of 2 %: told as undecided, with a detectable change above it."""
    found = judged(CPU, protocol("cpu"), 200, math.log(1.022))
    assert share(found, "slower") == 0
    assert share(found, "same") <= 0.1
    assert all(one.minimum_detectable_effect > 0.022 for one in found)


def test_the_detectable_change_that_stands_beside_a_verdict_is_detected():
    timing = protocol("cpu")
    promised = float(np.median([one.minimum_detectable_effect for one in judged(CPU, timing, 100)]))
    assert share(judged(CPU, timing, 300, math.log1p(promised), seed=1), "faster") >= 0.7


def test_more_throttled_blocks_than_allowed_are_no_verdict():
    assert share(judged(replace(CPU, throttled=0.4), protocol("cpu"), 50, math.log(1.2)), "invalid") == 1
