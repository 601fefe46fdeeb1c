"""A case is known by what is asked: its key, its label and the words that ask for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.records.case import Case, Plan, stack_words

RESULTS = Path(__file__).resolve().parents[3] / "benchmark_results" / "cpu"
TOLD = {"linear.rows": 8, "attention.max_splits": 2}


@pytest.fixture(scope="module")
def lines():
    """The oldest committed run: header, then records."""
    oldest = min(RESULTS.glob("*.jsonl"))
    return [json.loads(line) for line in oldest.read_text().splitlines()]


def test_a_committed_record_from_before_parameters_keeps_its_key(lines):
    records = [line["record"] for line in lines if "record" in line]
    cases = [Case.model_validate(record["case"]) for record in records]
    assert all("parameters" not in record["case"] for record in records)
    assert [case.key for case in cases] == [record["key"] for record in records]
    assert [case.model_dump(mode="json") for case in cases] == [record["case"] for record in records]


def test_a_committed_plan_from_before_parameters_keeps_its_hash(lines):
    plan = Plan.model_validate(lines[0]["header"]["plan"])
    assert {line["record"]["plan"] for line in lines if "record" in line} == {plan.hash}


def test_another_value_of_a_parameter_is_another_case(make_case):
    plain, told = make_case(), make_case(parameters={"rotary.rows": 8})
    assert len({plain.key, told.key, make_case(parameters={"rotary.rows": 16}).key}) == 3
    assert plain.key == make_case(parameters={}).key
    assert told.label() == "toy/tiny rotary(rows=8) cpu smoke"
    assert Case.model_validate_json(told.model_dump_json()) == told


def test_a_stack_in_words_asks_for_itself(make_case):
    case = make_case(optimizations=("rotary", "linear", "attention"), parameters=TOLD)
    assert case.stack() == "rotary+linear(rows=8)+attention(max_splits=2)"
    assert stack_words(case.stack()) == (
        "optimization=[rotary,linear,attention]",
        "optimization.linear.rows=8",
        "optimization.attention.max_splits=2",
    )
    assert stack_words(make_case(optimizations=()).stack()) == ("optimization=[]",)
