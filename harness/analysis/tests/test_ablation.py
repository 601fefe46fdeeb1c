"""A sweep taken apart: known contributions are found again, in each of the three ways."""

import math
from itertools import product

import numpy as np
import pytest

from harness.analysis.compare.ablation import ablations
from harness.analysis.compare.arms import arms
from harness.records.case import Case, TimingSettings, WorkloadShape
from harness.records.checks import Check, Parity
from harness.records.record import Block, Environment, Failure, Record, Series

GAINS = {"rotary": 1.1, "attention": 1.5, "linear": 1.0, "cuda_graph": 2.0}
FULL = tuple(GAINS)
PROCESSES, BLOCKS = 3, 10
RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.0, noise=1.0, limit=1.0),))
MACHINE = Environment(
    commit="c" * 40, dirty=False, diff_hash=None, command=("python",), python="3.11", platform="linux", packages={},
    cpu="c", cpu_cores=2, memory_bytes=1,
)  # fmt: skip
TIMING = TimingSettings(
    name="t", processes=3, min_blocks=10, max_blocks=30, half_width=0.005, margin=0.01, limit_s=60.0
)
EACH = [(name,) for name in FULL]
GROWING = [FULL[:count] for count in range(1, len(FULL) + 1)]
LESS_ONE = [tuple(other for other in FULL if other != name) for name in FULL]


def timed(stack, model="m", environment=MACHINE, gains=GAINS, parameters=None):
    """Its candidate is as fast as the product of its gains, on a machine whose processes run at different levels."""
    rng = np.random.default_rng(len(stack))
    shape = WorkloadShape(name="w", batch=1, prompt_tokens=8, new_tokens=4, dtype="bfloat16")
    case = Case(
        model=model, size="tiny", optimizations=stack, hardware="cpu", workload=shape, arms=("reference",),
        timing=TIMING, seed=0, deadline_s=60.0, parameters=parameters or {},
    )  # fmt: skip
    speed = math.prod(gains[name] for name in stack)
    times = {"reference": 20.0, "candidate": 20.0 / speed, "again": 20.0 / speed}
    series = [
        Series(
            arm=arm, phase="decode", process=process, blocks=tuple(range(BLOCKS)),
            samples_ms=tuple(ms * (1 + process / 10) * np.exp(rng.normal(0, 0.001, BLOCKS))),
        )
        for process, (arm, ms) in product(range(PROCESSES), times.items())
    ]  # fmt: skip
    blocks = [Block(process=p, index=i, phase="decode") for p in range(PROCESSES) for i in range(BLOCKS)]
    return Record(
        run="r", plan="p", case=case, key=case.key, status="passed", started_at="now", wall_s=1.0, parity=RIGHT,
        series=tuple(series), blocks=tuple(blocks), environment=environment,
    )  # fmt: skip


def taken_apart(*records):
    return ablations(records, {record.key: arms(record) for record in records})


def sweep(*stacks):
    return [timed(stack) for stack in dict.fromkeys(((), *stacks))]


def test_each_way_finds_what_an_optimization_contributes():
    (found,) = taken_apart(*sweep(*EACH, *GROWING, *LESS_ONE))
    assert (found.case.optimizations, found.phase, found.start) == (FULL, "decode", pytest.approx(1, rel=0.01))
    assert [one.optimization for one in found.contributions] == list(FULL)
    for one in found.contributions:
        for step in (one.cumulative, one.alone, one.leave_one_out):
            assert step.estimate.speedup == pytest.approx(GAINS[one.optimization], rel=0.01)
            assert step.estimate.verdict == ("same" if one.optimization == "linear" else "faster")
    assert found.contributions[-1].reached == pytest.approx(math.prod(GAINS.values()), rel=0.01)
    assert {one.alone.base for one in found.contributions} == {()}


def test_contributions_of_the_growing_stack_multiply_to_the_whole():
    (found,) = taken_apart(*sweep(*GROWING))
    product_of_steps = math.prod(one.cumulative.estimate.speedup for one in found.contributions)
    assert found.start * product_of_steps == pytest.approx(found.contributions[-1].reached, rel=0.005)


def test_what_requires_an_optimization_leaves_with_it():
    without_rotary = ("linear", "cuda_graph")
    stacks = [("rotary",), ("rotary", "attention"), ("linear",), ("cuda_graph",), without_rotary, *GROWING]
    (found,) = taken_apart(*sweep(*stacks))
    rotary, attention = found.contributions[:2]
    assert (rotary.leave_one_out.base, rotary.leave_one_out.estimate.speedup) == (
        without_rotary,
        pytest.approx(1.65, rel=0.01),
    )
    assert (attention.alone.base, attention.alone.estimate.speedup) == (("rotary",), pytest.approx(1.5, rel=0.01))


def test_a_step_without_its_record_is_none_and_the_rest_stands():
    broken = timed(FULL[:2])
    failure = Failure(kind="E", message="m", traceback="")
    crashed = broken.model_copy(update={"status": "crashed", "error": failure, "series": (), "blocks": ()})
    records = [crashed if record.key == broken.key else record for record in sweep(*EACH, *GROWING)]
    (found,) = taken_apart(*records)
    assert [one.cumulative is None for one in found.contributions] == [False, True, True, False]
    assert found.contributions[1].reached is None
    assert found.contributions[1].alone is not None


def test_ratios_of_unlike_machines_are_no_contribution():
    elsewhere = timed(FULL[:2], environment=MACHINE.model_copy(update={"cpu": "another"}))
    records = [elsewhere if record.key == elsewhere.key else record for record in sweep(*GROWING)]
    (found,) = taken_apart(*records)
    assert [one.cumulative is None for one in found.contributions] == [False, True, True, False]


def test_a_disturbed_record_makes_its_steps_invalid():
    quiet = timed(FULL[:1])
    blocks = tuple(block.model_copy(update={"foreign_processes": 1}) for block in quiet.blocks)
    disturbed = quiet.model_copy(update={"blocks": blocks})
    records = [disturbed if record.key == quiet.key else record for record in sweep(*GROWING)]
    (found,) = taken_apart(*records)
    assert [one.cumulative.estimate.verdict for one in found.contributions] == ["invalid", "invalid", "same", "faster"]
    assert found.contributions[1].cumulative.estimate.reasons[0].startswith("rotary: 1 foreign process")


def test_models_are_taken_apart_one_by_one():
    other = [timed(record.case.optimizations, model="n") for record in sweep(*GROWING)]
    assert [found.case.model for found in taken_apart(*sweep(*GROWING), *other)] == ["m", "n"]


@pytest.mark.parametrize("stacks", [[], [("rotary",)], [FULL], EACH], ids=["none", "one", "no steps", "each alone"])
def test_what_does_not_grow_is_no_ablation(stacks):
    assert taken_apart(*sweep(*stacks)) == ()


def test_each_value_of_a_swept_parameter_is_taken_apart():
    told = {rows: {"linear.rows": rows} for rows in (8, 32)}
    swept = [
        timed(stack, parameters=parameters, gains=GAINS | {"linear": 1 + parameters["linear.rows"] / 100})
        for stack in [*EACH, *GROWING]
        if "linear" in stack
        for parameters in told.values()
    ]
    found = {one.case.parameters["linear.rows"]: one for one in taken_apart(*sweep(*GROWING[:2]), *swept)}
    assert {rows: one.contributions[2].optimization for rows, one in found.items()} == {
        rows: f"linear(rows={rows})" for rows in told
    }
    for rows, one in found.items():
        assert one.contributions[2].cumulative.estimate.speedup == pytest.approx(1 + rows / 100, rel=0.01)
