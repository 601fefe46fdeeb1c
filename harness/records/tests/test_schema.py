"""The committed schema is that of the types, and what the store writes keeps to it."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from harness.records import schema

RESULTS = Path(__file__).resolve().parents[3] / "benchmark_results"


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft202012Validator(schema.document())


@pytest.fixture(scope="module")
def lines():
    smallest = min(RESULTS.glob("*/*.jsonl"), key=lambda path: path.stat().st_size)
    return [json.loads(line) for line in smallest.read_text().splitlines()]


def test_the_committed_schema_is_current():
    held = (RESULTS / "schema.json").read_text()
    assert held == schema.text(), "python -m harness.records.schema > benchmark_results/schema.json"


def test_a_committed_record_keeps_to_the_schema(validator, lines):
    assert [list(validator.iter_errors(line)) for line in lines] == [[] for _ in lines]


@pytest.mark.parametrize(
    ("field", "value"), [("status", "fine"), ("wall_s", "1 s"), ("run", "../up"), ("stray", 1), ("case", None)]
)
def test_a_record_that_does_not_is_refused(validator, lines, field, value):
    wrong = copy.deepcopy(lines[1])
    wrong["record"][field] = value
    assert not validator.is_valid(wrong)
