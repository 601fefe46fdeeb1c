from __future__ import annotations

import io

import pytest

from harness.analysis.outcome import Outcome
from harness.records.case import Plan, Skip
from harness.records.checks import Check, Divergence, Parity
from harness.records.record import Failure, Record
from harness.records.stack_name import StackNames
from harness.report import console


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def make_record(make_case):
    def make(status, case=None, **fields):
        case = case or make_case()
        common = {"run": "r", "plan": "p", "started_at": "2025-01-01T00:00:00+00:00", "wall_s": 1.0}
        return Record(case=case, key=case.key, status=status, **common, **fields)

    return make


RIGHT = Check(level="layer", subject="layer 0", name="delta", rule="max", error=1.0, noise=1.0, limit=2.0)


def counted(subject, rule, error):
    return Check(level="path", subject=subject, name="logits", rule=rule, error=error, noise=0, limit=0)


def broken(divergence=None):
    check = Check(level="layer", subject="layer 2", name="delta", rule="slices", error=5.0, noise=1.0, limit=2.0)
    return Parity(checks=(check,), first_divergence=divergence)


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "log"])
def test_progress_tells_case_part_and_end_and_obeys_nothing_that_the_worker_says(stream, make_case, make_record):
    with console.progress(stream, 1) as shown:
        shown.begin(make_case())
        shown.part("prove parity")
        shown.say(0.25, "[red]layer 3\x1b]0;owned\x07\r")
        shown.end(make_record("killed", error=Failure(kind="SIGKILL", message="killed\nfrom outside")))
    text = stream.getvalue()
    assert "toy/tiny rotary cpu smoke" in text
    assert "killed from outside" in text
    assert "\x1b]0;owned" not in text
    assert "\x07" not in text


def test_tables_name_a_stack_shortly_and_tell_its_members_below(make_case, make_record):
    stream, names = io.StringIO(), StackNames({"toy": ("rotary", "kv_cache")})
    whole = make_case(optimizations=("rotary", "kv_cache"))
    record = make_record("crashed", case=whole, error=Failure(kind="X", message="broke"))
    console.print_outcome(Outcome((record,), {}), console.Path("r.jsonl"), (), stream, names)
    lines = stream.getvalue().splitlines()
    assert any("| toy/tiny full on cpu smoke " in line for line in lines)
    assert "`full` of toy is rotary+kv_cache" in lines
    assert "refused: toy/tiny full on cpu smoke: crashed: broke" in lines


def test_a_log_has_no_control_characters(make_case, make_record):
    stream = io.StringIO()
    record = make_record("crashed", error=Failure(kind="X", message="a\x1b[31mb"))
    console.print_outcome(Outcome((record,), {}), run_file=console.Path("r.jsonl"), reports=(), stream=stream)
    assert all(char.isprintable() or char == "\n" for char in stream.getvalue())


def test_of_many_cases_the_terminal_lists_those_that_are_refused(make_record):
    error = Failure(kind="X", message="out of tune")
    records = (*[make_record("skipped", reason="no GPU")] * console.LISTED, make_record("crashed", error=error))
    stream = io.StringIO()
    console.print_outcome(Outcome(records, {}), run_file=console.Path("r.jsonl"), reports=(), stream=stream)
    said = stream.getvalue()
    assert f"{len(records)} cases: listed are the refused ones" in said
    assert "crashed" in said
    assert "skipped |" not in said


def test_what_was_noted_while_timing_is_said_once_with_its_cases(make_record, make_case):
    passed = {"parity": Parity(checks=(RIGHT,))}
    both, one = "timed without rotary: it has no speed", "the time limit ended it"
    records = (
        make_record("passed", timing_notes=(both,), **passed),
        make_record("passed", make_case(seed=1), timing_notes=(both, one), **passed),
    )
    stream = io.StringIO()
    console.print_outcome(Outcome(records, {}), run_file=console.Path("r.jsonl"), reports=(), stream=stream)
    notes = [line for line in stream.getvalue().splitlines() if line.startswith("note: ")]
    assert notes == [f"note: 2 cases: {both}", f"note: toy/tiny rotary cpu smoke: {one}"]


def test_coverage_adds_up_and_every_bad_end_refuses_but_a_skip(make_record, make_case):
    error = Failure(kind="X", message="why")
    records = (
        make_record("passed", parity=Parity(checks=(RIGHT,))),
        make_record("failed", parity=broken()),
        make_record("timed_out", error=error),
        make_record("lost", reason="interrupted"),
        make_record("skipped", reason="no GPU"),
    )
    outcome = Outcome(records, {})
    assert outcome.coverage() == "5 planned = 1 passed + 2 failed + 1 lost + 1 skipped"
    assert len(outcome.refusals()) == 3
    assert outcome.exit_code == 1
    assert Outcome((records[0], records[4]), {}).exit_code == 0
    assert Outcome(records[4:], {}).exit_code == 1


def test_a_failure_is_told_by_its_first_divergence_or_else_by_its_worst_check(make_record):
    divergence = Divergence(layer=2, stage="q_rotated", op="rotary", rule="max", where="[0]", error=3.0, limit=1.0)
    (told,) = Outcome((make_record("failed", parity=broken(divergence)),), {}).refusals()
    assert "layer 2, q_rotated (rotary): largest error 3, 1 allowed (rule max: [0])" in told
    (told,) = Outcome((make_record("failed", parity=broken()),), {}).refusals()
    assert "layer 2 (delta): RMS error 5 of a slice, 2 allowed (rule slices)" in told


def test_a_refusal_counts_what_broke_and_names_the_rest_with_its_own_amount(make_record):
    parity = Parity(checks=(counted("rows that part", "top-1", 11), counted("after eviction", "finite", 38912), RIGHT))
    (told,) = Outcome((make_record("failed", parity=parity),), {}).refusals()
    assert "rows that part (logits): 11 tokens with another first choice and no near-tie, none allowed" in told
    assert told.endswith("; 2 of 3 checks broken, also after eviction (38,912 logits not finite)")


def test_of_many_broken_subjects_a_refusal_names_a_few(make_record):
    parity = Parity(checks=tuple(counted(f"path {index}", "top-1", 1) for index in range(9)))
    (told,) = Outcome((make_record("failed", parity=parity),), {}).refusals()
    assert "path 4 (" in told
    assert "path 5" not in told
    assert told.endswith(" and 4 more")


def test_the_table_names_what_broke_and_the_levels_that_were_judged(make_record):
    failed = Parity(checks=(counted("rows that part", "top-1", 11), RIGHT))
    records = (make_record("failed", parity=failed), make_record("passed", parity=Parity(checks=(RIGHT,))))
    stream = io.StringIO()
    console.print_outcome(Outcome(records, {}), run_file=console.Path("r.jsonl"), reports=(), stream=stream)
    assert "FAIL: 1 of 2 checks on path, layer broken: rows that part" in stream.getvalue()
    assert "pass: 1 check on layer, worst 50% of limit" in stream.getvalue()


def test_a_kernel_that_is_wrong_without_the_model_is_named_beside_the_place(make_record):
    alone = Check(level="op", subject="gemv", name="ties", rule="slices", error=5.0, noise=1.0, limit=2.0)
    layer = broken(Divergence(layer=2, stage="mlp", op="gated", rule="max", where="[0]", error=3.0, limit=1.0))
    parity = layer.model_copy(update={"checks": (*layer.checks, alone, alone)})
    (told,) = Outcome((make_record("failed", parity=parity),), {}).refusals()
    assert "layer 2, mlp (gated)" in told
    assert "3 of 3 checks broken; kernels that are wrong when they run alone, outside the model: gemv (2 of" in told


def test_a_plan_shows_cases_skips_notes_hash_and_total(make_case):
    case = make_case()
    plan = Plan(cases=(case,), skipped=(Skip(case=make_case(seed=1), reason="no GPU"),), notes=("left out x",))
    stream = io.StringIO()
    console.print_plan(plan, {case.key: 125.0}, stream)
    fed = "a proof is fed 2 x 16 prompt + 64 new tokens"
    for part in (case.key, "B2, 24 prompt", "no GPU", "note: left out x", plan.hash, "about 2 min", fed):
        assert part in stream.getvalue()
