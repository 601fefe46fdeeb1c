"""What a finished run says: counts, why it is refused, and its exit code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.analysis.compare.arms import arms
from harness.analysis.outcome import Outcome, against_reference, against_strongest, why
from harness.analysis.tests.test_compare_arms import CASE, record, series
from harness.records.checks import Check, Parity
from harness.records.kill_matrix import KillMatrix, MutantOutcome
from harness.records.record import Failure, Record

LABEL = CASE.label()


def left(status: str, **more: Any) -> Record:
    fields = {"run": "r", "plan": "p", "case": CASE, "key": CASE.key, "started_at": "now", "wall_s": 1.0}
    return Record(status=status, **(fields | more))


def broken() -> Parity:
    return Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=3.0, noise=1.0, limit=1.0),))


CRASHED = left("crashed", error=Failure(kind="E", message="out of luck"))
LOST, SKIPPED = left("lost", reason="no shard"), left("skipped", reason="no GPU")
FAILED = left("failed", parity=broken())
PASSED = record(series("candidate", 2.0), series("again", 2.0), series("reference", 4.0), series("hf_static", 3.0))


def test_every_planned_case_is_counted_once() -> None:
    counted = Outcome([PASSED, PASSED, FAILED, CRASHED, LOST, SKIPPED], {}).coverage()
    assert counted == "6 planned = 2 passed + 2 failed + 1 lost + 1 skipped"


def test_why_is_the_error_or_the_reason_or_what_broke() -> None:
    assert [why(made) for made in (CRASHED, LOST, PASSED)] == ["out of luck", "no shard", ""]
    assert why(FAILED) == FAILED.parity.refusal() != ""
    assert why(FAILED.model_copy(update={"parity": Parity(checks=())})) == "no check was made"
    assert why(PASSED.model_copy(update={"parity": None})) == ""


@pytest.mark.parametrize(
    ("records", "refusals", "code"),
    [
        ([PASSED], 0, 0),
        ([PASSED, SKIPPED], 0, 0),
        ([SKIPPED], 0, 1),
        ([], 0, 1),
        ([PASSED, CRASHED], 1, 1),
        ([PASSED, LOST], 1, 1),
        ([FAILED], 1, 1),
    ],
)
def test_a_run_passes_where_something_did_and_nothing_is_refused(records, refusals: int, code: int) -> None:
    found = Outcome(records, {})
    assert (len(found.refusals()), len(found.refused()), found.exit_code) == (refusals, refusals, code)


def test_a_refusal_names_case_end_and_reason() -> None:
    assert Outcome([CRASHED], {}).refusals() == (f"{LABEL}: crashed: out of luck",)
    assert Outcome([PASSED, LOST], {}).refused() == (LOST,)


def planted(*ends: str) -> Record:
    outcomes = tuple(
        MutantOutcome(subject="k", name=f"fault {i}", kind="scale", end=end, level="op" if end == "killed" else None)
        for i, end in enumerate(ends)
    )
    return PASSED.model_copy(update={"kill_matrix": KillMatrix(outcomes=outcomes)})


@pytest.mark.parametrize(("ends", "said"), [(("killed",), None), (("killed", "survived"), "k: fault 1")])
def test_a_gate_that_did_not_see_a_fault_is_refused(ends: tuple[str, ...], said: str | None) -> None:
    wanted = () if said is None else (f"{LABEL}: the gate did not see planted faults: {said}",)
    assert Outcome([planted(*ends)], {}).refusals() == wanted


@pytest.mark.parametrize(("candidate_ms", "slower"), [(2.0, False), (4.0, False), (5.0, True)])
def test_a_case_that_is_slower_than_the_reference_is_refused(candidate_ms: float, slower: bool) -> None:
    timed = record(series("candidate", candidate_ms), series("again", candidate_ms), series("reference", 4.0))
    refusals = Outcome([timed], {timed.key: arms(timed)}).refusals()
    assert refusals == ((f"{LABEL}: decode is slower than the reference, 0.8x [0.8, 0.8]",) if slower else ())


def test_being_slower_than_a_peer_refuses_nothing() -> None:
    timed = record(series("candidate", 2.0), series("again", 2.0), series("reference", 4.0), series("hf_static", 1.0))
    (phase,) = arms(timed)
    assert Outcome([timed], {timed.key: (phase,)}).refusals() == ()
    assert against_reference(phase).speedup == pytest.approx(2)
    assert against_strongest(phase).speedup == pytest.approx(0.5)
    alone = replace(phase, against=(), strongest=None)
    assert against_reference(alone) is against_strongest(alone) is None
    assert Outcome([timed], {timed.key: (alone,)}).refusals() == ()
