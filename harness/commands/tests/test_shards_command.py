from __future__ import annotations

import io
import json
import shutil

import pytest

from harness.commands import shards
from harness.commands.main import main
from harness.planning import cost
from harness.records.case import Plan
from harness.records.checks import Check, Parity
from harness.records.record import Record
from harness.records.run_file import RunWriter, read_file, run_path

RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.5, noise=1.0, limit=1.0),))


def ask(*argv):
    out, err = io.StringIO(), io.StringIO()
    code = main(["shards", *map(str, argv)], out, err)
    return code, out.getvalue() + err.getvalue()


@pytest.fixture
def listed(tmp_path):
    def listed(name, *tests):
        path = tmp_path / name
        path.write_text("".join(f"{test}\n" for test in tests) + "\n3 tests collected in 0.1s\n")
        return path

    return listed


@pytest.mark.parametrize(
    ("first", "second", "code", "said"),
    [
        (["a.py::x"], ["a.py::y[1-b]"], 0, "2 collected, 2 ran in 2 shard(s), 0 wrong"),
        (["a.py::x"], [], 1, "never ran: a.py::y[1-b]"),
        (["a.py::x"], ["a.py::x", "a.py::y[1-b]"], 1, "ran 2 times: a.py::x"),
        (["a.py::x", "a.py::z"], ["a.py::y[1-b]"], 1, "ran and was not collected: a.py::z"),
    ],
)
def test_every_test_runs_in_exactly_one_shard_or_is_named(listed, first, second, code, said):
    collected = listed("collected", "a.py::x", "a.py::y[1-b]")
    found = ask("verify", collected, listed("first", *first), listed("second", *second))
    assert found[0] == code
    assert said in found[1]


def test_the_balance_of_shards_of_the_tests_is_told_by_what_each_test_took(listed, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "TESTS", tmp_path / "tests.json")
    shards.TESTS.write_text('{"a.py::x": 3.0, "a.py::y": 1.0}')
    one, two = listed("first", "a.py::x"), listed("second", "a.py::y", "a.py::new")
    said = ask("verify", listed("collected", "a.py::x", "a.py::y", "a.py::new"), one, two)[1]
    assert "2 of recorded duration, longest shard over the mean 1.000" in said


def test_a_shard_that_never_reported_and_an_empty_collection_are_refused(listed, tmp_path):
    assert "its shard never reported" in ask("verify", listed("collected", "a.py::x"), tmp_path / "none")[1]
    assert "nothing would be proven" in ask("verify", listed("collected"), listed("first", "a.py::x"))[1]


def test_the_balance_of_a_sweep_is_shown_with_every_case_once():
    code, said = ask("show", 2, "+model=qwen3_4b_instruct_2507", "optimization=none,rotary,linear", "hardware=cpu")
    assert code == 0, said
    assert "shard 2/2: " in said
    assert said.count("qwen3_4b_instruct_2507/tiny") == 3
    assert "longest shard over the mean" in said


def test_the_plan_of_a_kind_of_machine_is_told_with_the_command_that_runs_it(tmp_path):
    path = tmp_path / "plans.yaml"
    path.write_text("desk: {shards: 3, sweep: ['+model=glob(qwen3_4b*)', 'optimization=none,rotary', hardware=cpu]}")
    code, said = ask("plan", f"plans={path}")
    assert code == 0, said
    assert "desk: 2 cases in 3 shards" in said
    assert "python -m harness -m '+model=glob(qwen3_4b*)' optimization=none,rotary hardware=cpu shard=I/3" in said


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("desk: {shards: 0, sweep: [size=tiny]}", "desk", "desk.shards"),
        ("desk: {shards: 2, sweep: [size=tiny], gpus: 8}", "desk", "desk.gpus"),
        ("desk: {shards: 2, sweep: [", "desk", "plans.yaml"),
        ("desk: {shards: 2, sweep: [size=tiny]}", "dask", "desk"),
    ],
)
def test_a_plan_that_says_nothing_sound_is_refused_by_its_field(tmp_path, text, kind, message):
    path = tmp_path / "plans.yaml"
    path.write_text(text)
    code, said = ask("plan", kind, f"plans={path}")
    assert code == 2
    assert message in said


@pytest.fixture
def finished(tmp_path, make_case, environment):
    """A run file of one case for each (seed, seconds, status), all of them with one label."""

    def finished(name, *ends):
        cases = [make_case(seed=seed) for seed, _, _ in ends]
        plan = Plan(cases=tuple(cases), skipped=())
        common = {"run": name, "plan": plan.hash, "started_at": "2025-01-01T00:00:00+00:00", "environment": environment}
        with RunWriter(run_path(tmp_path / "runs", "cpu", name), name, plan) as writer:
            for case, (_, seconds, status) in zip(cases, ends, strict=True):
                proof = {"parity": RIGHT} if status == "passed" else {"reason": status}
                writer.append(Record(case=case, key=case.key, wall_s=seconds, status=status, **proof, **common))
        return cost.name(cases[0])

    return finished


def test_durations_are_the_median_of_what_finished_and_others_stay(finished, tmp_path):
    label = finished("r-1", (0, 10.0, "passed"), (1, 30.0, "passed"), (2, 14.0, "passed"), (3, 1.0, "lost"))
    path = tmp_path / "durations.json"
    path.write_text('{"another case": 7.5}')
    code, said = ask("learn", tmp_path / "runs", f"durations={path}")
    assert code == 0
    assert "1 of 2 durations learned from 4 records" in said
    assert json.loads(path.read_text()) == {"another case": 7.5, label: 14.0}
    assert "0 of 2 durations learned" in ask("learn", tmp_path / "runs", f"durations={path}")[1]
    (run,) = tmp_path.rglob("*.jsonl")
    assert cost.estimate_s(read_file(run).plan.cases[0], cost.read_durations(path)) == 14.0


def test_a_record_of_a_shard_and_of_its_merge_is_learned_from_once(finished, tmp_path):
    label = finished("r-1", (0, 10.0, "passed"), (1, 20.0, "passed"))
    finished("r-2", (2, 40.0, "passed"))
    (shard,) = tmp_path.rglob("r-1.jsonl")
    shutil.copy(shard, shard.with_name("r-1-in-a-merge.jsonl"))
    path = tmp_path / "durations.json"
    assert "learned from 3 records" in ask("learn", tmp_path / "runs", f"durations={path}")[1]
    assert json.loads(path.read_text()) == {label: 20.0}


def test_where_only_the_proof_was_recorded_its_timing_is_added_to_it(make_case):
    timed = make_case()
    untimed = timed.model_copy(update={"timing": timed.timing.model_copy(update={"name": "off", "processes": 0})})
    recorded = {cost.name(untimed): 9.0}
    assert cost.estimate_s(untimed, recorded) == 9.0
    assert cost.estimate_s(timed, recorded) == min(9.0 + cost.START_S + timed.timing.limit_s, timed.deadline_s)
