"""What comparing decides on the records on file: nothing of a record and itself, everything that is planted in one."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.compare import anchor
from harness.analysis.compare.attempts import standing
from harness.analysis.compare.difference import difference
from harness.analysis.compare.runs import compare_runs
from harness.records.case_identity import CaseIdentity
from harness.records.record import CANDIDATE, CONTROL
from harness.records.run_file import read_file

RESULTS = Path(__file__).resolve().parents[3] / "benchmark_results"
PASSED = [
    pytest.param(record, id=f"{record.run}-{record.key}")
    for path in sorted(RESULTS.rglob("*.jsonl"))
    for record in read_file(path).records
    if record.series and record.status == "passed"
]
BY_RUN = {parameter.values[0].run: parameter.values[0] for parameter in PASSED}
SIGNED = [
    BY_RUN[f"20261128-90e4c46d-{name}"] for name in ("6b004a", "b0c5ac", "cc7184", "245675")
]  # glm, qwen3_4b, qwen3_coder, qwen3_vl: five processes each
A_PAIR = 60


def compared(base, *heads):
    return compare_runs(standing([base]), standing(heads))


def slowed(record, by):
    """Another run of the case, in which the candidate takes `by` as long."""
    series = tuple(
        one.model_copy(update={"samples_ms": tuple(ms * by for ms in one.samples_ms)})
        if one.arm in (CANDIDATE, CONTROL)
        else one
        for one in record.series
    )
    return record.model_copy(update={"run": "another", "series": series})


def verdicts(found):
    return {change.phase: change.estimate.verdict for change in found.changes}


@pytest.mark.parametrize("record", PASSED)
def test_a_record_is_the_same_as_itself(record):
    found = compared(record, record)
    assert {change.phase for change in found.changes} == {series.phase for series in record.series}
    assert set(verdicts(found).values()) == {"same"}
    assert (found.apart, found.exit_code) == ((), 0)


@pytest.mark.parametrize("record", SIGNED, ids=lambda record: record.case.model)
def test_a_run_that_measured_the_same_is_the_same_in_decode(record):
    assert verdicts(compared(record, slowed(record, 1.0)))["decode"] == "same"


@pytest.mark.parametrize(("record", "by"), [*product(SIGNED, (1.02, 1.03, 1.05))])
def test_a_slowdown_of_two_percent_and_more_is_found_in_decode(record, by):
    found = compared(record, slowed(record, by))
    assert verdicts(found)["decode"] == "slower"
    assert found.exit_code == 1
    decode = next(change.estimate for change in found.changes if change.phase == "decode")
    assert decode.low < 1 / by < decode.high
    assert decode.minimum_detectable_effect < 0.02


@pytest.mark.parametrize("record", SIGNED, ids=lambda record: record.case.model)
def test_a_slowdown_of_five_percent_is_found_in_prefill(record):
    assert verdicts(compared(record, slowed(record, 1.05)))["prefill"] == "slower"
    assert verdicts(compared(record, slowed(record, 1.0)))["prefill"] in ("same", "inconclusive")


def test_the_speed_up_over_the_reference_stands_beside_and_is_not_judged():
    record = SIGNED[1]
    quick = tuple(
        one.model_copy(update={"samples_ms": tuple(ms / 2 for ms in one.samples_ms)}) if one.arm == "reference" else one
        for one in record.series
    )
    found = compared(record, record.model_copy(update={"run": "another", "series": quick}))
    decode = next(change for change in found.changes if change.phase == "decode")
    assert decode.estimate.verdict == "same"
    assert decode.base_speedup == pytest.approx(2 * decode.head_speedup)


def test_pairs_of_runs_as_noisy_as_those_on_record_give_no_alarm():
    """Centers of processes and blocks drawn with the spreads of each signed record."""
    rng = np.random.default_rng(0)
    alarms = 0
    for number in range(A_PAIR):
        record = SIGNED[number % len(SIGNED)]
        found = anchor.speeds(record, ("prefill", "decode")[number // len(SIGNED) % 2])
        blocks = [np.array(values) - np.median(values) for values in found.values()]
        spread = np.std([np.median(values) for values in found.values()], ddof=1)
        sides = [
            {process: rng.choice(own, own.size) + rng.normal(0, spread) for process, own in enumerate(blocks)}
            for _ in range(2)
        ]
        alarms += difference(*sides, margin=0.01).verdict in ("faster", "slower")
    assert alarms == 0


def test_the_same_case_under_other_protocols_is_neither_lost_nor_added():
    case = CaseIdentity.of(SIGNED[1])
    mine = [parameter.values[0] for parameter in PASSED if CaseIdentity.of(parameter.values[0]) == case]
    signed, quick, newer, *_ = sorted(mine, key=lambda record: record.started_at)
    assert len({signed.key, quick.key, newer.key}) == 3
    found = compared(signed, quick)
    assert {change.phase for change in found.changes} == {"prefill", "decode"}, "behind 32 and 16 cores"
    assert found.apart == ()
    assert "of the 3 processes" in found.changes[0].estimate.reasons[0]
    later = compared(quick, newer)
    assert {item.word for item in later.apart} == {"not comparable"}
    assert "new before every sample" in later.apart[0].reason


def with_sentinel(record, ms, spread=0.0):
    """Every block of it with a sentinel, whose center differs by `spread` from each process to the next."""
    blocks = tuple(
        block.model_copy(update={"sentinel_ms": ms * (1 + spread * block.process)}) for block in record.blocks
    )
    return record.model_copy(update={"blocks": blocks})


def test_a_device_that_is_slower_today_is_no_slower_candidate():
    record = SIGNED[1]
    steady = compared(with_sentinel(record, 1.0), with_sentinel(slowed(record, 1.03), 1.03))
    assert verdicts(steady)["decode"] == "same"
    planted = compared(with_sentinel(record, 1.0), with_sentinel(slowed(record, 1.03), 1.0))
    assert verdicts(planted)["decode"] == "slower"


def test_a_sentinel_that_varies_from_process_to_process_is_no_unit():
    record = SIGNED[1]
    base, head = with_sentinel(record, 1.0, 0.01), with_sentinel(slowed(record, 1.0), 1.03, 0.01)
    assert verdicts(compared(base, head))["decode"] == "same"


def test_a_failed_attempt_of_the_newest_run_speaks_for_the_case():
    record = SIGNED[0]
    failed = record.model_copy(
        update={"status": "crashed", "case": record.case.model_copy(update={"seed": 7}), "key": "0" * 16}
    )
    for tries in ((failed, record), (record, failed)):
        (speaking,) = standing(tries).values()
        assert speaking.status == "crashed"
    fixed = record.model_copy(update={"run": "later", "started_at": "2030-01-01T00:00:00+00:00", "key": "1" * 16})
    (speaking,) = standing((failed, record, fixed)).values()
    assert speaking.run == "later"


def test_of_a_proof_and_a_timing_the_timing_speaks():
    record = SIGNED[0]
    untimed = {"series": (), "started_at": "2030-01-01T00:00:00+00:00", "run": "later", "key": "0" * 16}
    (speaking,) = standing((record, record.model_copy(update=untimed))).values()
    assert speaking is record
