"""Which records speak of a case: those of the same build doing the same work, in the order in which they came."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from harness.records.case import Case
from harness.records.gate_evidence import Source
from harness.records.record import Environment, Record, Series, StandingProof
from harness.signoff.evidence import ENDS, Evidence, gather
from harness.signoff.tests.made import NOW

TIMES = (Series(arm="reference", phase="decode", process=0, samples_ms=(1.0,), blocks=(0,)),)


@pytest.fixture
def case(make_case) -> Case:
    return make_case()


@pytest.fixture
def left(case: Case, environment: Environment):
    """A record of the case `hours_ago`, changed."""

    def made(hours_ago: int, about: Case | None = None, **changes: Any) -> Source:
        asked = about or case
        fields: dict[str, Any] = {
            "run": f"run-{hours_ago}",
            "plan": "p",
            "case": asked,
            "key": asked.key,
            "status": "crashed",
            "started_at": (NOW - timedelta(hours=hours_ago)).isoformat(),
            "wall_s": 1.0,
            "environment": environment,
        }
        # Not validated: what a record may hold is not what is asked here.
        record = Record.model_construct(**(fields | changes))
        return Source(f"{hours_ago}.jsonl", f"{abs(hours_ago):064x}", record)

    return made


def found(case: Case, *sources: Source) -> Evidence:
    return gather(case, sources, (), NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"size": "full"},
        {"optimizations": ("rotary", "attention")},
        {"parameters": {"page_tokens": 16}},
        {"hardware": "h200"},
        {"workload": {"batch": 3}},
        {"workload": {"dtype": "bfloat16"}},
        {"workload": {"prompt_tokens": 25}},
        {"weights": "/a/checkpoint"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_build_or_other_work_says_nothing(case: Case, left, change: dict[str, Any]) -> None:
    if isinstance(change.get("workload"), dict):
        change = {"workload": case.workload.model_copy(update=change["workload"])}
    other = case.model_copy(update=change)
    assert found(case, left(2, other)).newest is None
    assert found(other, left(2, other)).newest is not None


def test_how_long_a_case_was_timed_is_no_part_of_what_it_is(case: Case, left) -> None:
    longer = case.model_copy(update={"timing": case.timing.model_copy(update={"processes": 5}), "seed": 7})
    assert found(case, left(2, longer)).newest == left(2, longer)


def test_the_last_that_said_anything_is_the_newest(case: Case, left) -> None:
    sources = [left(5), left(4), *(left(3, status=status) for status in sorted(ENDS))]
    assert found(case, *sources).newest == sources[1]
    assert {"lost", "skipped"} == ENDS
    assert found(case, *sources[2:]).newest is None


def test_what_came_after_the_question_is_not_known(case: Case, left) -> None:
    now, later = left(0), left(-1)
    assert found(case, now, later).newest == now


def test_only_timed_runs_of_an_equal_machine_came_before(case: Case, left, environment: Environment) -> None:
    passed = {"status": "passed", "series": TIMES}
    other = environment.model_copy(update={"cpu": "another"})
    wrong = [
        left(9, **(passed | {"status": "crashed"})),
        left(8, **(passed | {"series": ()})),
        left(7, **(passed | {"environment": environment.model_copy(update={"dirty": True, "diff_hash": "d"})})),
        left(6, **(passed | {"environment": None})),
        left(5, **(passed | {"environment": other})),
    ]
    good, newest = left(4, **passed), left(1, **passed)
    assert found(case, *wrong, good, newest).earlier == (good,)
    assert found(case, good, left(1, **(passed | {"environment": None}))).earlier == ()


def test_the_proof_is_the_record_with_the_content_that_was_named(case: Case, left) -> None:
    proof, other = left(5), left(4)
    newest = left(1, proof=StandingProof(run="run-5", content=proof.digest))
    assert found(case, proof, other, newest).proof == proof
    assert found(case, other, newest).proof is None
    assert found(case, proof, other).proof is None


def test_each_record_is_used_once(case: Case, left) -> None:
    one, two = left(5), left(1)
    evidence = Evidence(case, newest=two, matrix=one, proof=one, earlier=(one,))
    assert evidence.used() == (one, two)
    assert Evidence(case, None, None, None, ()).used() == ()
