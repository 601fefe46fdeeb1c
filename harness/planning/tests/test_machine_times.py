"""What a plan says that it will take: by the runs that this machine has finished, and by a checkpoint's own size."""

from __future__ import annotations

import pytest

from harness.conftest import FakeMachine
from harness.planning import cost, machine_times
from harness.records.case import Plan
from harness.records.checks import Check, Parity
from harness.records.kill_matrix import KillMatrix, MutantOutcome
from harness.records.record import Failure, Record, StandingProof
from harness.records.run_file import RunWriter, run_path

RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.0, noise=1.0, limit=1.0),))

SEEN = MutantOutcome(subject="k", name="halved", kind="scale", end="killed", level="op")
PLANTED = KillMatrix(outcomes=(SEEN,))
HERE = FakeMachine()


@pytest.fixture
def took(tmp_path, environment):
    """A function: keeps the record of a case that took so many seconds."""
    count = iter(range(100))

    def took(case, wall_s, **changes):
        run, plan = f"r-{next(count):02d}", Plan(cases=(case,), skipped=())
        fields = {"status": "passed", "parity": RIGHT, "environment": environment} | changes
        common = {"run": run, "plan": plan.hash, "started_at": "2025-01-01T00:00:00+00:00"}
        with RunWriter(run_path(tmp_path, case.hardware, run), run, plan) as writer:
            writer.append(Record(case=case, key=case.key, wall_s=wall_s, **common, **fields))

    return took


@pytest.fixture
def said(tmp_path):
    """A function: the seconds that are said of a case here."""

    def said(case, durations=(), machine=HERE, like=None):
        like = like or case.size
        known = dict(durations)
        times = machine_times.read(tmp_path, {case: like}, known, machine)
        return times.estimate_s(case, cost.estimate_s(case, known, like))

    return said


def untimed(case):
    return case.model_copy(update={"timing": case.timing.model_copy(update={"name": "off", "processes": 0})})


def test_without_a_record_the_estimate_stands(make_case, said, tmp_path):
    case = make_case(deadline_s=1e4)
    assert said(case) == cost.estimate_s(case, {})
    assert not list(tmp_path.iterdir()), "nothing is made in a folder of no records"


def test_a_case_that_ran_takes_what_it_took_whatever_its_seed_and_others_did(make_case, took, said):
    case = make_case(deadline_s=1e4)
    took(case, 222.0)
    took(case.model_copy(update={"seed": 3}), 224.0)
    took(case.model_copy(update={"optimizations": ()}), 20.0)
    assert said(case, {cost.name(case): 36.0}) == 223.0


def test_a_case_like_one_that_ran_is_estimated_by_how_far_off_that_estimate_was(make_case, took, said):
    ran, case = (make_case(deadline_s=1e4, optimizations=stack) for stack in (("rotary",), ("rotary", "linear")))
    took(ran, 3 * cost.estimate_s(ran, {}))
    assert said(case) == pytest.approx(3 * cost.estimate_s(case, {}))
    assert said(case.model_copy(update={"deadline_s": 9.0})) == 9.0


def test_a_committed_duration_is_scaled_by_how_fast_this_machine_is(make_case, took, said):
    ran, case = (make_case(deadline_s=1e4, optimizations=stack) for stack in (("rotary",), ("rotary", "linear")))
    took(ran, 20.0)
    assert said(case, {cost.name(ran): 10.0, cost.name(case): 16.0}) == pytest.approx(32.0)


def test_timing_is_added_to_a_proof_that_ran(make_case, took, said):
    case = make_case(deadline_s=1e4)
    took(untimed(case), 50.0)
    assert said(case) == 50.0 + cost.timing_s(1, case.timing.limit_s)


@pytest.mark.parametrize(
    "changes",
    [
        {"kill_matrix": PLANTED},
        {"proof": StandingProof(run="r", content="0" * 64)},
        {"status": "timed_out", "parity": None, "error": Failure(kind="Deadline", message="past it")},
    ],
    ids=["planted faults", "a proof of another run", "not finished"],
)
def test_a_record_that_took_another_time_than_its_case_teaches_nothing(make_case, took, said, changes):
    case = untimed(make_case(deadline_s=1e4))
    took(case, 500.0, **changes)
    assert said(case) == cost.estimate_s(case, {})


@pytest.mark.parametrize("field", ["model", "size", "weights", "hardware"])
def test_what_is_of_another_kind_teaches_nothing(make_case, took, said, field):
    other = {"model": "another", "size": "slice", "weights": "/a/checkpoint", "hardware": "cpu_x4"}
    took(make_case(deadline_s=1e4, **{field: other[field]}), 500.0)
    case = make_case(deadline_s=1e4)
    assert said(case) == cost.estimate_s(case, {})


def test_a_cpu_of_another_name_teaches_nothing_and_a_gpu_is_named_by_its_hardware(make_case, took, said):
    other = FakeMachine(cpu="another CPU")
    for hardware, expected in (("cpu", None), ("h200", 500.0)):
        case = make_case(deadline_s=1e4, hardware=hardware)
        took(case, 500.0)
        assert said(case, machine=other) == (expected or cost.estimate_s(case, {}))


def test_a_checkpoint_costs_as_much_as_the_size_that_it_is_nearest_to(make_case):
    sizes = {"tiny": 16, "slice": 4_000, "full": 60_000}

    def weights_bytes(model, size, dtype, weights):
        return 2**20 * (10 if weights else sizes[size])

    case = make_case(size="full", weights="/a/checkpoint", deadline_s=1e4)
    like = cost.like(case, sizes, weights_bytes)
    assert like == "tiny"
    published = {cost.name(case): 480.0}
    small = make_case(size="tiny", deadline_s=1e4)
    assert cost.estimate_s(case, published, like) == cost.estimate_s(small, {}) < 60
    assert cost.like(make_case(size="full"), sizes, weights_bytes) == "full"
