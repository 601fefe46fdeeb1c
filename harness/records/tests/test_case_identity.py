"""Two records are of one case by what is asked and by what the weights hold, never by how it was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records.case_identity import CaseIdentity
from harness.records.record import READABLE, Provenance, Record
from harness.records.run_file import read_file

RESULTS = Path(__file__).resolve().parents[3] / "benchmark_results"
ONE, OTHER = "1" * 64, "2" * 64


def of_checkpoint(case, content, **changes):
    fields = {"run": "r", "plan": "p", "case": case, "key": case.key, "status": "skipped", "reason": "no GPU"}
    held = Provenance(hf_config="c", kernel_sources="k", checkpoint=content)
    return Record(**(fields | {"started_at": "", "wall_s": 0.0, "provenance": held} | changes))


@pytest.fixture(scope="module")
def records():
    files = sorted(RESULTS.rglob("*.jsonl"))
    return [record for path in files for record in read_file(path).records]


def test_records_of_every_schema_version_have_an_identity(records):
    labels = {record.schema_version: CaseIdentity.of(record).label() for record in records}
    assert set(labels) == set(READABLE)
    assert all(record.case.hardware in labels[record.schema_version] for record in records[-1:])


def test_a_timed_record_shares_its_identity_with_those_of_other_protocols(records):
    gpu = [record for record in records if record.series and not record.case.on_cpu]
    keys, identities = {record.key for record in gpu}, {CaseIdentity.of(record).key for record in gpu}
    assert len(keys) == len(gpu)
    assert len(identities) <= len(keys) - 12


def test_protocol_arms_seed_and_deadline_are_no_part_of_it(make_case):
    plain = make_case()
    slower = plain.timing.model_copy(update={"name": "signoff", "processes": 5, "limit_s": 60.0, "margin": 0.01})
    for change in ({"timing": slower}, {"arms": ("reference",)}, {"seed": 7}, {"deadline_s": 9.0}):
        other = make_case(**change)
        assert other.key != plain.key
        assert CaseIdentity.of_case(other).key == CaseIdentity.of_case(plain).key


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"size": "full"},
        {"optimizations": ("rotary", "linear")},
        {"optimizations": ()},
        {"parameters": {"rotary.rows": 8}},
        {"hardware": "cpu_x2"},
        {"weights": "checkpoints/a"},
    ],
)
def test_another_question_is_another_case(make_case, change):
    assert CaseIdentity.of_case(make_case(**change)).key != CaseIdentity.of_case(make_case()).key


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 3},
        {"prompt_tokens": 25},
        {"new_tokens": 0},
        {"shared_prefix_tokens": 8},
        {"images": 1},
        {"dtype": "bfloat16"},
    ],
)
def test_another_workload_under_the_same_name_is_another_case(make_case, change):
    plain = make_case()
    other = make_case(workload=plain.workload.model_copy(update=change))
    assert CaseIdentity.of_case(other).key != CaseIdentity.of_case(plain).key


def test_a_checkpoint_is_what_its_files_hold(make_case):
    here, moved = make_case(weights="checkpoints/a"), make_case(weights="elsewhere/b")
    one, other = of_checkpoint(here, ONE), of_checkpoint(here, OTHER)
    assert CaseIdentity.of(one) == CaseIdentity.of(of_checkpoint(moved, ONE))
    assert CaseIdentity.of(one) != CaseIdentity.of(other)


def test_a_checkpoint_of_unknown_content_is_named_by_its_path(make_case):
    old = of_checkpoint(make_case(weights="checkpoints/a"), None)
    assert CaseIdentity.of(old).weights == "checkpoint at checkpoints/a"
    assert "checkpoint at checkpoints/a" in CaseIdentity.of(old).label()
    assert CaseIdentity.of(old) != CaseIdentity.of(of_checkpoint(old.case, ONE))
