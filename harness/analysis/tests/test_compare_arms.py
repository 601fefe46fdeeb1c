"""The judge: verdicts from intervals, pairing by block, and each reason that makes a phase invalid."""

import math

import numpy as np
import pytest

from harness.analysis.compare import floors
from harness.analysis.compare.arms import arms
from harness.analysis.compare.estimate import of_pairs
from harness.analysis.compare.floors import RESIDENT_BYTES, SHORT_FLOPS
from harness.records.case import Case, TimingSettings, WorkloadShape
from harness.records.checks import Check, Parity
from harness.records.record import ArmReport, Block, Ceilings, KernelTime, Record, Series, Work

MARGIN = 0.01
TIMING = TimingSettings(
    name="t", processes=3, min_blocks=10, max_blocks=30, half_width=0.005, margin=MARGIN, limit_s=60.0
)
CASE = Case(
    model="m",
    size="tiny",
    optimizations=("rotary",),
    hardware="h",
    workload=WorkloadShape(name="w", batch=1, prompt_tokens=8, new_tokens=4, dtype="bfloat16"),
    arms=("reference",),
    timing=TIMING,
    seed=0,
    deadline_s=60.0,
)
RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.0, noise=1.0, limit=1.0),))
PROCESSES, BLOCKS = 3, 10


def series(arm, milliseconds, blocks=range(BLOCKS)):
    """The same samples in each process: one value for all blocks, or one per block."""
    values = np.broadcast_to(milliseconds, len(blocks)).tolist()
    return tuple(
        Series(arm=arm, phase="decode", process=p, samples_ms=tuple(values), blocks=tuple(blocks))
        for p in range(PROCESSES)
    )


def blocks(change=lambda process, index: {}):
    return tuple(
        Block(process=p, index=i, phase="decode", **change(p, i)) for p in range(PROCESSES) for i in range(BLOCKS)
    )


def record(*arms_of, machine=None, **more):
    return Record(
        run="r",
        plan="p",
        case=CASE,
        key=CASE.key,
        status="passed",
        started_at="now",
        wall_s=1.0,
        parity=RIGHT,
        series=sum(arms_of, ()),
        blocks=blocks() if machine is None else machine,
        **more,
    )


def healthy(**more):
    return record(series("candidate", 2.0), series("again", 2.0), series("reference", 4.0), **more)


def first(found):
    return found.against[0].estimate


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"),
    [
        (0.05, 0.005, "faster"),
        (-0.05, 0.005, "slower"),
        (0.0, 0.005, "same"),
        (0.01, 0.005, "inconclusive"),
        (0.0, 0.1, "inconclusive"),
    ],
)
def test_verdict_follows_the_interval(shift, spread, verdict):
    noise = np.random.default_rng(0).normal(0, spread, 30)
    assert of_pairs(list(noise - noise.mean() + shift), MARGIN).verdict == verdict


def test_a_halved_time_is_a_speed_up_of_two():
    found = of_pairs([math.log(2)] * 20, MARGIN)
    assert (found.speedup, found.low, found.high, found.n) == (pytest.approx(2), pytest.approx(2), pytest.approx(2), 20)
    assert found.minimum_detectable_effect == pytest.approx(MARGIN)


def test_too_few_pairs_say_so():
    found = of_pairs([1.0] * 5, MARGIN)
    assert found.verdict == "inconclusive"
    assert (found.low, found.high) == (0, math.inf)
    assert "too few" in found.reasons[0]


def test_a_healthy_phase():
    (phase,) = arms(healthy(arms=(ArmReport(name="reference", label="HF default", process=0),)))
    assert (phase.phase, phase.candidate_ms, phase.strongest, phase.total_blocks) == ("decode", 2.0, "reference", 30)
    assert (phase.against[0].label, phase.against[0].median_ms) == ("HF default", 4.0)
    assert (first(phase).verdict, first(phase).speedup, first(phase).reasons) == ("faster", pytest.approx(2), ())
    assert phase.again is not None
    assert phase.again.verdict == "same"
    assert phase.floor_ms is None


def test_without_series_there_is_nothing_to_compare():
    assert arms(record()) == ()


def test_the_reference_comes_first_and_the_fastest_other_arm_is_the_strongest():
    peer = series("peer", 3.0)
    (phase,) = arms(record(peer, series("candidate", 2.0), series("again", 2.0), series("reference", 4.0)))
    assert [arm.arm for arm in phase.against] == ["reference", "peer"]
    assert phase.strongest == "peer"


def test_samples_are_paired_by_block_and_not_by_position():
    ramp = np.linspace(1, 10, BLOCKS)
    late = series("reference", 2 * ramp[2:], range(2, BLOCKS))
    (phase,) = arms(record(series("candidate", ramp), series("again", ramp), late))
    assert first(phase).n == PROCESSES * (BLOCKS - 2)
    assert first(phase).low == first(phase).high == pytest.approx(2)


def test_a_throttled_block_is_left_out_whole():
    slow_once = np.array([2.0] * 9 + [900.0])
    throttled = blocks(lambda p, i: {"throttle": ("hardware thermal slowdown",)} if i == 9 else {})
    (phase,) = arms(
        record(series("candidate", slow_once), series("again", 2.0), series("reference", 4.0), machine=throttled)
    )
    assert (phase.dropped_blocks, first(phase).n, phase.candidate_ms) == (3, 27, 2.0)
    assert first(phase).verdict == "faster"


def test_a_candidate_that_differs_from_itself_is_invalid():
    (phase,) = arms(record(series("candidate", 2.0), series("again", 2.2), series("reference", 4.0)))
    assert first(phase).verdict == "invalid"
    assert "differs from itself" in first(phase).reasons[0]


WIDE = 2.0 * np.exp(np.random.default_rng(0).normal(0, 0.05, BLOCKS))
"""An A/A pair that may be off by about 4 %."""


@pytest.mark.parametrize(
    ("reference_ms", "verdict"),
    [(4.0, "faster"), (2.2, "faster"), (2.06, "inconclusive"), (2.0, "inconclusive"), (1.6, "slower")],
)
def test_a_verdict_allows_for_what_an_undecided_control_may_be_off(reference_ms: float, verdict: str):
    (phase,) = arms(record(series("candidate", 2.0), series("again", WIDE), series("reference", reference_ms)))
    assert phase.again is not None
    assert (phase.again.verdict, first(phase).verdict) == ("inconclusive", verdict)
    assert (first(phase).low, first(phase).high) == pytest.approx((reference_ms / 2,) * 2)
    off = max(phase.again.high, 1 / phase.again.low) - 1
    assert first(phase).reasons == (
        f"the A/A pair is undecided: it may be off by up to {off:.1%}, which the verdict allows for",
    )


def test_a_control_of_too_few_pairs_leaves_nothing_decided():
    few = {"blocks": range(1)}
    (phase,) = arms(record(series("candidate", 2.0), series("again", 2.0, **few), series("reference", 4.0)))
    assert first(phase).verdict == "inconclusive"


def test_a_phase_without_a_control_is_undecided():
    (phase,) = arms(record(series("candidate", 2.0), series("reference", 4.0)))
    assert (first(phase).verdict, first(phase).reasons) == ("inconclusive", ("no A/A pair was timed",))


def by_process(arm, *milliseconds):
    return tuple(
        Series(arm=arm, phase="decode", process=p, samples_ms=(ms,) * BLOCKS, blocks=tuple(range(BLOCKS)))
        for p, ms in enumerate(milliseconds)
    )


@pytest.mark.parametrize(
    ("reference", "verdict", "speaking"),
    [
        ((4.0, 4.2, 4.4), "faster", ""),
        ((2.1, 2.1, 2.01), "inconclusive", "1 of 3 processes speak against `faster`"),
        ((*[2.1] * 5, 1.99), "inconclusive", "1 of 6 processes speak against `faster`"),
        ((*[1.9] * 5, 2.01), "inconclusive", "1 of 6 processes speak against `slower`"),
        ((*[2.0] * 9, 2.03), "inconclusive", "1 of 10 processes speak against `same`"),
        ((2.0, 2.005, 1.995), "same", ""),
    ],
)
def test_three_processes_or_more_must_bear_the_verdict_out(reference, verdict, speaking):
    count = len(reference)
    level = (by_process("candidate", *[2.0] * count), by_process("again", *[2.0] * count))
    machine = tuple(Block(process=p, index=i, phase="decode") for p in range(count) for i in range(BLOCKS))
    (phase,) = arms(record(*level, by_process("reference", *reference), machine=machine))
    assert first(phase).verdict == verdict
    assert len(first(phase).reasons) == bool(speaking)
    assert not speaking or speaking in first(phase).reasons[0]


def test_more_than_a_fifth_of_the_blocks_throttled_is_invalid():
    (phase,) = arms(healthy(machine=blocks(lambda p, i: {"throttle": ("power brake",)} if i < 3 else {})))
    assert first(phase).verdict == "invalid"
    assert "9 of 30 blocks" in first(phase).reasons[0]


def test_a_phase_with_every_block_throttled_is_invalid_and_has_no_ratio():
    (phase,) = arms(healthy(machine=blocks(lambda p, i: {"throttle": ("power brake",)})))
    assert (first(phase).verdict, first(phase).n, phase.candidate_ms) == ("invalid", 0, 2.0)


def test_a_foreign_process_is_invalid():
    (phase,) = arms(healthy(machine=blocks(lambda p, i: {"foreign_processes": int((p, i) == (1, 4))})))
    assert first(phase).verdict == "invalid"
    assert "1 foreign process on the GPU" in first(phase).reasons


def work(bytes_, flops):
    return (Work(phase="decode", bytes=bytes_, flops=flops),)


def ceilings(dtype="bfloat16"):
    return Ceilings(read_bytes_per_s=1e12, matmul_flops_per_s=1e12, matmul_dtype=dtype)


@pytest.mark.parametrize(
    ("bytes_", "flops", "floor_ms", "bound"),
    [(10**9, 1, 1.0, "memory"), (10**9, 15 * 10**8, 1.5, "compute"), (1, SHORT_FLOPS, 1.0, "compute")],
)
def test_the_longer_floor_binds(bytes_, flops, floor_ms, bound):
    (phase,) = arms(healthy(work=work(bytes_, flops), ceilings=ceilings()))
    assert (phase.floor_ms, phase.bound) == (pytest.approx(floor_ms), bound)
    assert phase.roofline_fraction == pytest.approx(floor_ms / 2.0)


def test_little_work_has_no_floor():
    (phase,) = arms(healthy(work=work(RESIDENT_BYTES - 1, SHORT_FLOPS - 1), ceilings=ceilings()))
    assert (phase.floor_ms, phase.bound, phase.roofline_fraction) == (None, None, None)


def test_a_ceiling_in_another_dtype_is_no_floor():
    (phase,) = arms(healthy(work=work(1, 10**12), ceilings=ceilings("float32")))
    assert phase.floor_ms is None


@pytest.mark.parametrize(("bytes_", "verdict"), [(2_090_000_000, "faster"), (2_120_000_000, "invalid")])
def test_a_time_under_the_physical_floor_is_invalid(bytes_, verdict):
    (phase,) = arms(healthy(work=work(bytes_, 1), ceilings=ceilings()))
    assert first(phase).verdict == verdict
    assert any("physical floor" in reason for reason in first(phase).reasons) == (verdict == "invalid")


@pytest.mark.parametrize(
    ("bytes_", "flops", "known", "verdict"),
    [
        (RESIDENT_BYTES - 1, 1, {"resident_bytes_per_s": 6e10}, "invalid"),
        (RESIDENT_BYTES - 1, 1, {"resident_bytes_per_s": 7e10}, "faster"),
        (RESIDENT_BYTES - 1, 1, {}, "faster"),
        (1, SHORT_FLOPS - 1, {"matmul_flops_per_s": 2e11}, "invalid"),
        (1, SHORT_FLOPS - 1, {"matmul_flops_per_s": 3e11}, "faster"),
        (1, SHORT_FLOPS - 1, {"matmul_flops_per_s": 2e11, "matmul_dtype": "float32"}, "faster"),
    ],
)
def test_what_small_work_cannot_explain_is_invalid(bytes_, flops, known, verdict):
    found = Ceilings(**{"read_bytes_per_s": 1e12, "matmul_dtype": "bfloat16"} | known)
    (phase,) = arms(healthy(work=work(bytes_, flops), ceilings=found))
    assert (first(phase).verdict, phase.floor_ms) == (verdict, None)
    assert any("it was not computed" in reason for reason in first(phase).reasons) == (verdict == "invalid")


def test_clocks_that_disagree_are_invalid():
    (phase,) = arms(healthy(machine=blocks(lambda p, i: {"wall_disagreement": 0.5 if i < 6 else 0.0})))
    assert first(phase).verdict == "invalid"
    assert "differ by 50%: work ran outside the timed stream" in first(phase).reasons[0]
    (phase,) = arms(healthy(machine=blocks(lambda p, i: {"wall_disagreement": 0.5 if i < 4 else 0.0})))
    assert first(phase).verdict == "faster"


@pytest.mark.parametrize(("count", "reasons"), [(1, 1), (2, 1), (3, 0)])
def test_fewer_than_three_processes_are_a_first_look(count, reasons):
    times = (by_process(arm, *[ms] * count) for arm, ms in (("candidate", 2.0), ("again", 2.0), ("reference", 4.0)))
    machine = tuple(Block(process=p, index=i, phase="decode") for p in range(count) for i in range(BLOCKS))
    (phase,) = arms(record(*times, machine=machine))
    assert (first(phase).verdict, phase.processes, phase.sound_processes) == ("faster", count, count)
    assert len(first(phase).reasons) == reasons
    assert not reasons or first(phase).reasons[0] == f"{count} of the 3 processes that a verdict needs: a first look"


def test_a_process_that_did_not_settle_or_stopped_early_is_not_sound_and_voids_nothing():
    few = range(BLOCKS - 1)
    cut = [one for arm, ms in (("candidate", 2.0), ("again", 2.0), ("reference", 4.0)) for one in series(arm, ms, few)]
    (phase,) = arms(record(tuple(cut), machine=blocks(lambda p, i: {"settled": p != 0})))
    assert (first(phase).verdict, phase.sound_processes) == ("faster", 0)
    assert first(phase).reasons == (
        "the warm-up of 1 of 3 processes had not settled",
        "3 of 3 processes stopped before 10 blocks",
    )
    (phase,) = arms(healthy(machine=blocks(lambda p, i: {"settled": p != 0})))
    assert phase.sound_processes == 2


def kernel_time(**changes):
    fields = {"low_ms": 1.0, "high_ms": 1.0, "n": 31, "twin_ms": 2.0, "bytes": 3 * 10**9, "flops": 1}
    return KernelTime(kernel="k", case="c", **(fields | changes))


@pytest.mark.parametrize(
    ("median_ms", "written_bytes", "below"),
    [(1.0, 2 * 10**9, False), (0.94, 2 * 10**9, True), (0.94, 25 * 10**8, False), (0.1, None, False)],
    ids=["at the floor", "under it", "writes may stay in a cache", "a record that does not tell"],
)
def test_a_kernel_is_held_to_the_floor_of_what_it_reads(median_ms, written_bytes, below):
    time = kernel_time(median_ms=median_ms, written_bytes=written_bytes)
    floor_ms, _ = floors.of_kernel(healthy(ceilings=ceilings()), time)
    assert bool(floors.below(median_ms, floor_ms)) is below
