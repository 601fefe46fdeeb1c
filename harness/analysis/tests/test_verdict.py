"""Where verdicts turn: at the margin, between processes, at an undecided control, at a floor; from both sides."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats as distributions

from harness.analysis import stats
from harness.analysis.compare import agreement, floors
from harness.analysis.compare.arms import arms, log_ratios_by_process
from harness.analysis.compare.difference import difference
from harness.analysis.compare.estimate import Estimate, across_processes, allowing, of_interval, of_pairs
from harness.analysis.compare.verdict import decided
from harness.analysis.stats import Interval
from harness.analysis.tests.test_compare_arms import BLOCKS, CASE, PROCESSES, blocks, first, healthy, record, series
from harness.records.record import Block, Ceilings, KernelTime, Series, Work

EDGE = math.log1p(0.01)
LITTLE = 1e-9


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.3, "inconclusive"),
        (0.1 + LITTLE, 0.3, "faster"),
        (-0.3, -0.1, "inconclusive"),
        (-0.3, -0.1 - LITTLE, "slower"),
        (-0.1, 0.1, "same"),
        (-0.1 - LITTLE, 0.1, "inconclusive"),
        (-0.1, 0.1 + LITTLE, "inconclusive"),
        (-0.3, 0.3, "inconclusive"),
        (-0.3, 0.0, "inconclusive"),
        (0.0, 0.3, "inconclusive"),
    ],
)
def test_a_verdict_turns_at_the_margin(low: float, high: float, verdict: str) -> None:
    assert decided(low, high, 0.1) == verdict


@pytest.mark.parametrize(("count", "few"), [(7, True), (8, False), (9, False)])
def test_eight_pairs_have_an_interval(count: int, few: bool) -> None:
    found = of_pairs([0.2] * count, 0.01)
    assert bool(found.reasons) is few
    assert (found.verdict == "inconclusive") is few


def test_no_pair_is_no_verdict() -> None:
    found = of_pairs([], 0.01)
    assert (found.low, found.high, found.n, found.minimum_detectable_effect) == (0, math.inf, 0, math.inf)
    assert math.isnan(found.speedup)
    assert difference({}, {0: [0.1]}, 0.01).reasons == difference({0: [0.1]}, {}, 0.01).reasons == found.reasons
    for empty in (difference({}, {0: [0.1]}, 0.01), difference({0: [0.1]}, {}, 0.01)):
        assert (empty.low, empty.high, empty.n, empty.verdict) == (0, math.inf, 0, "inconclusive")


def located(center: float, low: float, high: float) -> Interval:
    return Interval(center, low, high, 30)


FASTER, SLOWER, SAME = located(0.2, 0.15, 0.25), located(-0.2, -0.25, -0.15), located(0.0, -0.005, 0.005)


@pytest.mark.parametrize(
    ("verdict", "odd", "against"),
    [
        ("faster", located(0.0, -0.1, 0.3), True),
        ("faster", located(LITTLE, -0.1, 0.3), False),
        ("faster", located(0.005, 0.0, EDGE), True),
        ("faster", located(0.005, 0.0, EDGE + LITTLE), False),
        ("slower", located(0.0, -0.3, 0.1), True),
        ("slower", located(-LITTLE, -0.3, 0.1), False),
        ("slower", located(-0.005, -EDGE, 0.0), True),
        ("slower", located(-0.005, -EDGE - LITTLE, 0.0), False),
        ("same", located(0.02, EDGE, 0.03), False),
        ("same", located(0.02, EDGE + LITTLE, 0.03), True),
        ("same", located(-0.02, -0.03, -EDGE), False),
        ("same", located(-0.02, -0.03, -EDGE - LITTLE), True),
    ],
)
def test_one_process_that_does_not_bear_a_verdict_out(verdict: Any, odd: Interval, against: bool) -> None:
    usual = {"faster": FASTER, "slower": SLOWER, "same": SAME}[verdict]
    found = agreement.dissent(verdict, [usual, odd, usual], 0.01)
    assert found == () or found[0].startswith(f"1 of 3 processes speak against `{verdict}`")
    assert bool(found) is against
    assert agreement.dissent(verdict, [odd, odd], 0.01) == ()


@pytest.mark.parametrize("verdict", ["inconclusive", "invalid"])
def test_where_nothing_was_decided_there_is_nothing_to_bear_out(verdict: Any) -> None:
    assert agreement.dissent(verdict, [FASTER, SLOWER, SAME], 0.01) == ()


def test_the_spread_of_processes_is_known_from_three_on() -> None:
    centers = [located(center, center, center) for center in (0.1, 0.2, 0.6)]
    assert agreement.standard_error(centers[:2]) == 0.0
    deviation = math.sqrt(((0.1 - 0.3) ** 2 + (0.2 - 0.3) ** 2 + (0.6 - 0.3) ** 2) / 2)
    assert agreement.standard_error(centers) == pytest.approx(deviation / math.sqrt(3))


def test_processes_that_differ_need_a_larger_effect() -> None:
    """Their blocks go up and down, so that the interval of all together is narrow."""
    pairs = {process: [center - 0.5, center + 0.5] * 50 for process, center in enumerate((0.1, 0.2, 0.6))}
    found = across_processes(pairs, 0.01)
    half_width, error = math.log(found.high / found.low) / 2, math.sqrt(0.14 / 2 / 3)
    shift = stats.detectable_shift(half_width, EDGE, error)
    assert found.minimum_detectable_effect == pytest.approx(math.expm1(shift))
    assert shift > stats.detectable_shift(half_width, EDGE)
    alike = across_processes(dict.fromkeys(range(3), [0.2] * 10), 0.01)
    assert alike.minimum_detectable_effect == pytest.approx(0.01)
    few = across_processes({0: [0.1], 1: [0.2], 2: [0.6]}, 0.01)
    assert few.minimum_detectable_effect == math.inf


def estimate(low: float, high: float) -> Estimate:
    return of_interval(located((low + high) / 2, low, high), 0.01)


@pytest.mark.parametrize(
    ("control", "verdict"),
    [
        ((-0.005, 0.005), "faster"),
        ((-0.03, 0.005), "faster"),
        ((-0.05, 0.005), "inconclusive"),
        ((-0.005, 0.05), "inconclusive"),
        ((-0.005, 0.03), "faster"),
    ],
)
def test_the_far_end_of_an_undecided_control_is_taken_off(control: tuple[float, float], verdict: str) -> None:
    found = estimate(0.05, 0.06)
    judged = allowing(found, [estimate(*control)], 0.01)
    assert (judged.verdict, judged.low, judged.high) == (verdict, found.low, found.high)
    assert bool(judged.reasons) is (control != (-0.005, 0.005))


def test_what_two_controls_may_have_got_wrong_adds_up() -> None:
    found, control, same = estimate(0.05, 0.06), estimate(-0.005, 0.03), estimate(-0.005, 0.005)
    assert allowing(found, [control, same], 0.01).verdict == "faster"
    assert allowing(found, [control, control], 0.01).verdict == "inconclusive"
    assert allowing(found, [same, None], 0.01).verdict == "inconclusive"
    assert allowing(found, [None], 0.01).reasons == ("no A/A pair was timed",)
    assert allowing(found, [same], 0.01) == found


def test_what_is_invalid_or_undecided_stays_so() -> None:
    wide = estimate(-0.005, 0.05)
    invalid = replace(estimate(0.2, 0.3), verdict="invalid")
    assert allowing(invalid, [wide], 0.01) == invalid
    undecided = allowing(replace(estimate(0.2, 0.3), verdict="inconclusive"), [wide], 0.01)
    assert undecided.verdict == "inconclusive"
    assert len(undecided.reasons) == 1


def test_a_control_without_an_interval_decides_nothing() -> None:
    for low, high in ((0.0, 1.01), (0.99, math.inf)):
        control = replace(estimate(-0.005, 0.05), low=low, high=high)
        judged = allowing(estimate(0.2, 0.3), [control], 0.01)
        assert judged.verdict == "inconclusive"
        assert "too few samples for an interval" in judged.reasons[0]


def test_an_estimate_of_a_point_is_judged_as_one() -> None:
    control = replace(estimate(-0.005, 0.05), low=1.02, high=1.02)
    assert "too few" not in allowing(estimate(0.2, 0.3), [control], 0.01).reasons[0]


def prefill(arm: str, milliseconds: float) -> tuple[Series, ...]:
    return tuple(item.model_copy(update={"phase": "prefill"}) for item in series(arm, milliseconds))


def test_phases_are_judged_apart() -> None:
    timed = healthy()
    extra = (*prefill("candidate", 6.0), *prefill("again", 6.0), *prefill("reference", 3.0), *prefill("hf_static", 1.0))
    dropped = tuple(Block(process=0, index=i, phase="prefill", throttle=("thermal",)) for i in range(BLOCKS))
    work = (Work(phase="prefill", bytes=10**12, flops=0), Work(phase="decode", bytes=10**9, flops=0))
    both = timed.model_copy(
        update={
            "series": timed.series + extra,
            "blocks": timed.blocks + dropped,
            "work": work,
            "ceilings": Ceilings(read_bytes_per_s=1e12),
        }
    )
    before, decode = arms(both)
    assert (decode.candidate_ms, decode.dropped_blocks, decode.total_blocks) == (2.0, 0, 30)
    assert [arm.arm for arm in decode.against] == ["reference"]
    assert (before.candidate_ms, before.strongest, before.dropped_blocks) == (6.0, "hf_static", BLOCKS)
    assert (before.floor_ms, decode.floor_ms) == (pytest.approx(1000), pytest.approx(1))
    assert len(log_ratios_by_process(both, "decode", "reference")[0]) == BLOCKS


def throttled(count: int) -> tuple[Block, ...]:
    machine = blocks()
    return tuple(block.model_copy(update={"throttle": ("thermal",)}) for block in machine[:count]) + machine[count:]


@pytest.mark.parametrize(("count", "valid"), [(6, True), (7, False)])
def test_a_fifth_of_the_blocks_may_be_throttled(count: int, valid: bool) -> None:
    (phase,) = arms(healthy(machine=throttled(count)))
    assert (first(phase).verdict != "invalid") is valid


def test_medians_are_of_the_blocks_that_count() -> None:
    slow = [100.0] * 4 + [2.0] * 6
    machine = blocks(lambda process, index: {"throttle": ("thermal",)} if index < 2 else {})
    timed = record(series("candidate", slow), series("again", slow), series("reference", 4.0), machine=machine)
    (phase,) = arms(timed)
    assert phase.candidate_ms == 2.0
    all_dropped = blocks(lambda process, index: {"throttle": ("thermal",)})
    (lost,) = arms(healthy(machine=all_dropped))
    assert lost.candidate_ms == 2.0


def test_ratios_come_in_the_order_of_time() -> None:
    falling = [float(BLOCKS - i) for i in range(BLOCKS)]
    timed = record(series("candidate", 1.0), series("reference", falling, blocks=range(BLOCKS)[::-1]))
    ratios = log_ratios_by_process(timed, "decode", "reference")
    assert list(ratios) == list(range(PROCESSES))
    assert ratios[0] == [math.log(1.0 + i) for i in range(BLOCKS)]


@pytest.mark.parametrize(("apart", "valid"), [(0.1, True), (0.1 + LITTLE, False)])
def test_two_clocks_may_differ_by_a_tenth(apart: float, valid: bool) -> None:
    (phase,) = arms(healthy(machine=blocks(lambda process, index: {"wall_disagreement": apart})))
    assert (first(phase).verdict != "invalid") is valid


def test_a_dropped_block_says_nothing_of_the_clocks() -> None:
    def change(process: int, index: int) -> dict[str, Any]:
        return {"wall_disagreement": 0.5, "throttle": ("thermal",)} if index < 2 else {"wall_disagreement": 0.0}

    assert first(arms(healthy(machine=blocks(change)))[0]).verdict == "faster"
    without = blocks(lambda process, index: {"wall_disagreement": 0.5, "throttle": ("thermal",)})
    assert not any("wall clock" in reason for reason in first(arms(healthy(machine=without))[0]).reasons)


def working(bytes_: int, flops: int = 0, **ceilings: Any) -> Any:
    return healthy(
        work=(Work(phase="prefill", bytes=10**15, flops=10**18), Work(phase="decode", bytes=bytes_, flops=flops)),
        ceilings=Ceilings(matmul_dtype="bfloat16", **ceilings),
    )


@pytest.mark.parametrize(("bytes_", "claimed"), [(256 * 2**20 - 1, False), (256 * 2**20, True)])
def test_a_memory_floor_is_claimed_from_256_mebibytes_on(bytes_: int, claimed: bool) -> None:
    floor = floors.of_phase(working(bytes_, read_bytes_per_s=1e12), "decode")
    assert floor == ((pytest.approx(bytes_ / 1e9), "memory") if claimed else (None, None))


@pytest.mark.parametrize(("flops", "claimed"), [(10**9 - 1, False), (10**9, True)])
def test_a_compute_floor_is_claimed_from_a_billion_operations_on(flops: int, claimed: bool) -> None:
    floor = floors.of_phase(working(0, flops, matmul_flops_per_s=1e12), "decode")
    assert floor == ((pytest.approx(flops / 1e9), "compute") if claimed else (None, None))


def test_no_floor_is_claimed_without_ceilings_or_bytes() -> None:
    assert floors.of_phase(healthy(work=(Work(phase="decode", bytes=10**12, flops=10**12),)), "decode") == (None, None)
    assert floors.of_phase(working(10**12), "decode") == (None, None)
    assert floors.of_phase(working(0, read_bytes_per_s=1e12), "decode") == (None, None)
    assert floors.of_phase(healthy(), "decode") == (None, None)
    assert floors.of_phase(working(0, 10**12), "decode") == (None, None)


@pytest.mark.parametrize(("time_ms", "refused"), [(0.949, True), (0.95, False)])
def test_a_time_may_be_a_twentieth_under_the_floor(time_ms: float, refused: bool) -> None:
    assert bool(floors.below(time_ms, 1.0)) is refused
    assert floors.below(time_ms, None) == ()


@pytest.mark.parametrize(("time_ms", "refused"), [(0.499, True), (0.5, False)])
@pytest.mark.parametrize("bound", ["memory", "compute"])
def test_small_work_takes_half_of_what_a_cache_explains(bound: str, time_ms: float, refused: bool) -> None:
    moved, flops = (10**6, 10**4) if bound == "memory" else (10**4, 10**6)
    timed = working(moved, flops, resident_bytes_per_s=1e9, matmul_flops_per_s=1e9)
    assert bool(floors.unexplained(timed, "decode", time_ms)) is refused


def test_where_a_floor_is_claimed_or_nothing_is_known_nothing_is_unexplained() -> None:
    claimed = working(10**12, read_bytes_per_s=1e12, resident_bytes_per_s=1e9)
    assert floors.unexplained(claimed, "decode", 1e-9) == ()
    assert floors.unexplained(healthy(), "decode", 1e-9) == ()
    known = Ceilings(resident_bytes_per_s=1e9, matmul_flops_per_s=1e9, matmul_dtype="bfloat16")
    assert floors.unexplained(healthy(ceilings=known), "decode", 1e-9) == ()
    bare = healthy(work=(Work(phase="decode", bytes=10**6, flops=10**6),))
    assert floors.unexplained(bare, "decode", 1e-9) == ()


def test_what_a_kernel_writes_is_no_floor() -> None:
    timed = working(0, read_bytes_per_s=1e9)
    times = {"median_ms": 1.0, "low_ms": 1.0, "high_ms": 1.0, "twin_ms": 1.0, "n": 9}
    kernel = KernelTime(kernel="k", case="c", bytes=1000, written_bytes=400, flops=0, **times)
    assert floors.of_kernel(timed, kernel) == (pytest.approx(600 / 1e6), "memory")
    assert floors.of_kernel(timed, kernel.model_copy(update={"written_bytes": 1000})) == (None, None)
    assert floors.of_kernel(timed, kernel.model_copy(update={"written_bytes": 2000})) == (None, None)
    assert floors.of_kernel(timed, kernel.model_copy(update={"written_bytes": None})) == (None, None)


def test_the_difference_of_runs_has_as_many_degrees_of_freedom_as_processes_to_spare() -> None:
    base = {0: [0.10] * 10, 1: [0.12] * 10, 2: [0.14] * 10}
    head = {0: [0.50] * 10, 1: [0.53] * 10}
    found = difference(base, head, 0.01)
    pooled = (2 * 0.02**2 + 2 * 0.015**2) / 3
    across = float(distributions.t.ppf(0.995, 3)) * math.sqrt(pooled * (1 / 3 + 1 / 2))
    center = stats.location([0.50] * 10 + [0.53] * 10).center - 0.12
    assert math.log(found.low) == pytest.approx(center - across)
    assert math.log(found.high) == pytest.approx(center + across)
    assert found.n == 20
    alone = difference({0: [0.1] * 10}, {0: [0.5] * 10}, 0.01)
    assert (alone.low, alone.high, alone.verdict) == (0, math.inf, "inconclusive")


def test_the_difference_of_runs_is_as_wide_as_their_blocks_say() -> None:
    """Of two runs whose processes agree: the ends that lie apart are combined, each with the other's."""
    base = dict.fromkeys(range(3), [0.0, 0.01, 0.02, 0.03, 0.2] * 4)
    head = dict.fromkeys(range(3), [0.5, 0.51, 0.52, 0.8, 0.9] * 4)
    before, after = (stats.location(list(side[0]) * 3) for side in (base, head))
    found = difference(base, head, 0.01)
    center = after.center - before.center
    low = math.hypot(after.center - after.low, before.high - before.center)
    high = math.hypot(after.high - after.center, before.center - before.low)
    assert math.log(found.low) == pytest.approx(center - low)
    assert math.log(found.high) == pytest.approx(center + high)
    assert CASE.timing.margin == 0.01


def test_what_a_control_may_have_got_wrong_is_its_farther_end_on_either_side() -> None:
    """Also where the whole interval lies on one side."""
    for low, high in ((-0.04, -0.005), (0.005, 0.04)):
        control = replace(estimate(low, high), verdict="inconclusive")
        assert "off by up to 4.1%" in allowing(estimate(0.2, 0.3), [control], 0.01).reasons[0]


def test_foreign_processes_are_counted_where_there_are_some() -> None:
    machine = blocks(lambda process, index: {"foreign_processes": int(index == 3)})
    assert any("1 foreign process on the GPU" in reason for reason in first(arms(healthy(machine=machine))[0]).reasons)
    untold = record(series("candidate", 2.0), series("again", 2.0), series("reference", 4.0), machine=())
    assert first(arms(untold)[0]).verdict == "faster"


def test_a_median_is_of_the_kept_blocks_where_more_were_dropped() -> None:
    """Six of ten slow, all of them throttled."""
    slow = [100.0] * 6 + [2.0] * 4
    machine = blocks(lambda process, index: {"throttle": ("thermal",)} if index < 6 else {})
    timed = record(series("candidate", slow), series("again", slow), series("reference", 4.0), machine=machine)
    assert arms(timed)[0].candidate_ms == 2.0
