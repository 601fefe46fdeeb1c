"""In what unit two runs are compared, and what of a comparison decides its exit code."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from harness.analysis.compare import anchor
from harness.analysis.compare.anchor import anchored, sentinel, speeds
from harness.analysis.compare.arms import arms
from harness.analysis.compare.difference import change, unlike
from harness.analysis.compare.estimate import of_pairs
from harness.analysis.compare.runs import Change, Comparison, NotComparable, Word, compare_runs, ordered, over_reference
from harness.analysis.tests.test_compare_arms import BLOCKS, CASE, PROCESSES, blocks, record, series
from harness.records.record import Record

CPU = CASE.model_copy(update={"hardware": "cpu"})


def timed(candidate: Any = 2.0, sentinel_ms: Any = lambda process, index: None, case: Any = CASE) -> Record:
    machine = blocks(lambda process, index: {"sentinel_ms": sentinel_ms(process, index)})
    made = record(series("candidate", candidate), series("again", 2.0), series("reference", 4.0), machine=machine)
    prefill = tuple(
        block.model_copy(update={"phase": "prefill", "sentinel_ms": 7.0}) for block in machine if block.process == 0
    )
    return made.model_copy(update={"case": case, "key": case.key, "blocks": machine + prefill})


def test_a_candidate_is_as_fast_as_its_calls_a_second_on_a_gpu_and_as_its_ratio_on_a_cpu() -> None:
    assert speeds(timed(2.0), "decode") == {p: [pytest.approx(math.log(500))] * BLOCKS for p in range(PROCESSES)}
    on_cpu = speeds(timed(2.0, case=CPU), "decode")
    assert on_cpu == {p: [pytest.approx(math.log(2))] * BLOCKS for p in range(PROCESSES)}


def test_speeds_come_in_the_order_of_time() -> None:
    made = timed([float(i + 1) for i in range(BLOCKS)])
    backwards = made.model_copy(
        update={
            "series": tuple(
                each.model_copy(update={"blocks": each.blocks[::-1], "samples_ms": each.samples_ms[::-1]})
                for each in made.series[::-1]
            )
        }
    )
    found = speeds(backwards, "decode")
    assert found[1] == [pytest.approx(math.log(1000 / (i + 1))) for i in range(BLOCKS)]


def wavering(apart: float) -> Any:
    """A sentinel of a millisecond whose centers in three processes have a standard deviation of `apart` in the log."""
    return lambda process, index: math.exp((process - 1) * apart)


def test_a_sentinel_is_read_of_the_blocks_of_the_phase() -> None:
    assert sentinel(timed(2.0, wavering(0.0)), "decode") == {
        p: [pytest.approx(math.log(1000))] * BLOCKS for p in range(PROCESSES)
    }
    assert sentinel(timed(2.0), "decode") == {}
    assert sentinel(timed(2.0, lambda process, index: 1.0 if index else None), "decode") == {}


@pytest.mark.parametrize(("apart", "steady"), [(0.00099, True), (0.00101, False)])
def test_a_unit_is_as_steady_as_a_thousandth(apart: float, steady: bool) -> None:
    base, head = timed(2.0, wavering(apart)), timed(1.0, wavering(0.0))
    found = anchored(base, head, "decode")
    assert found.own
    assert found.base[0][0] == pytest.approx(math.log(500) - (math.log(1000) + apart if steady else 0))
    assert found.head[0][0] == pytest.approx(math.log(1000) - (math.log(1000) if steady else 0))
    assert anchored(head, base, "decode").base[0][0] == found.head[0][0]


def test_two_processes_do_not_tell_whether_a_unit_is_steady() -> None:
    made = timed(2.0, wavering(0.0))
    two = made.model_copy(update={"series": tuple(each for each in made.series if each.process < 2)})
    assert anchored(two, two, "decode").base == speeds(two, "decode")
    assert anchored(made, made, "decode").base != speeds(made, "decode")


def test_on_a_cpu_no_sentinel_is_a_unit() -> None:
    made = timed(2.0, wavering(0.0), CPU)
    found = anchored(made, made, "decode")
    assert (found.own, found.base, found.head) == (False, speeds(made, "decode"), speeds(made, "decode"))


def test_the_least_of_a_standing_unit_is_what_the_docs_say() -> None:
    assert anchor.STEADY == 1e-3


def judged(base: Record, head: Record) -> Any:
    (theirs,), (ours,) = arms(base), arms(head)
    return change(base, head, theirs, ours, ("BASE", "HEAD"))


def test_what_is_missing_of_a_side_leaves_a_change_undecided() -> None:
    usual = timed(2.0)
    alone = usual.model_copy(update={"series": tuple(each for each in usual.series if each.arm != "again")})
    two = usual.model_copy(update={"series": tuple(each for each in usual.series if each.process < 2)})
    assert (judged(usual, usual).verdict, judged(usual, usual).reasons) == ("same", ())
    assert judged(usual, alone).reasons == ("HEAD: its A/A pair is missing",)
    assert judged(two, usual).reasons == ("BASE: 2 of the 3 processes that a verdict needs",)
    assert {judged(usual, alone).verdict, judged(two, usual).verdict} == {"inconclusive"}


def test_a_ratio_is_held_to_the_control_and_a_time_of_its_own_is_not() -> None:
    wavering_again = [2.0, 2.1] * (BLOCKS // 2)
    for case, reasons in ((CPU, 1), (CASE, 0)):
        made = timed(2.0, case=case)
        others = tuple(each for each in made.series if each.arm != "again")
        odd = made.model_copy(update={"series": others + series("again", wavering_again)})
        assert len(judged(odd, odd).reasons) == reasons


def test_phases_have_a_scale_where_their_own_arms_were_timed(environment) -> None:
    there = timed(2.0, case=CPU).model_copy(update={"environment": environment})
    prefill = tuple(each.model_copy(update={"phase": "prefill"}) for each in there.series)
    others = tuple(each for each in there.series if each.arm != "reference")
    elsewhere = there.model_copy(update={"series": (*others, *prefill)})
    assert unlike(there, there, "decode") is None
    assert unlike(there, elsewhere, "decode") == (
        "the reference was not timed in both: their machines' states have nothing in common"
    )
    bare = there.model_copy(update={"environment": None})
    for pair in ((there, bare), (bare, there), (bare, bare)):
        assert unlike(*pair, "decode") == "a record without its environment"


def made(verdict: str, effect: float = 1.0, phase: Any = "decode") -> Change:
    shift = {"slower": -0.2, "faster": 0.2, "same": 0.0}.get(verdict, 0.0) * effect
    estimate = of_pairs([shift] * 10, 0.01)
    return Change("k", f"case {effect}", phase, 1.0, 1.0, estimate)


def undecided() -> Change:
    return Change("k", "case", "decode", 1.0, 1.0, of_pairs([], 0.01))


def apart(word: Word) -> NotComparable:
    return NotComparable("k", f"case {word}", word, "a reason")


@pytest.mark.parametrize(
    ("changes", "words", "code"),
    [
        ([], [], 3),
        (["same"], [], 0),
        (["faster"], [], 0),
        (["slower"], [], 1),
        (["slower", "same"], ["not comparable"], 1),
        (["undecided"], [], 3),
        (["undecided", "same"], [], 3),
        (["same"], ["not comparable"], 3),
        (["same"], ["introduced"], 1),
        (["same"], ["lost"], 1),
        (["same"], ["added"], 0),
        ([], ["held"], 0),
        ([], ["fixed"], 0),
        ([], ["added"], 3),
        ([], ["held", "not comparable"], 3),
    ],
)
def test_every_end_of_a_comparison_has_its_exit_code(changes: list[str], words: list[Word], code: int) -> None:
    found = [undecided() if verdict == "undecided" else made(verdict) for verdict in changes]
    assert Comparison(tuple(found), tuple(apart(word) for word in words)).exit_code == code


def test_an_invalid_change_is_an_undecided_one() -> None:
    invalid = replace(made("same"), estimate=replace(made("same").estimate, verdict="invalid"))
    assert Comparison((invalid,), ()).exit_code == 3


def test_the_largest_effect_comes_first_whatever_its_sign_and_words_in_their_order() -> None:
    found = ordered(
        [made("same"), made("faster", 1.0), undecided(), made("slower", 2.0)],
        [apart("held"), apart("added"), apart("introduced")],
    )
    assert [change.effect for change in found.changes] == [pytest.approx(0.4), pytest.approx(0.2), 0.0, 0.0]
    assert [item.word for item in found.apart] == ["introduced", "added", "held"]
    only = ordered([made("same", phase="prefill"), made("faster")], []).only("decode")
    assert [change.phase for change in only.changes] == ["decode"]


def test_one_record_on_both_sides_differs_by_nothing(environment) -> None:
    there = timed(2.0).model_copy(update={"environment": environment})
    (found,) = compare_runs({"k": there}, {"k": there}).changes
    assert (found.estimate.speedup, found.estimate.low, found.estimate.high) == (1.0, 1.0, 1.0)
    assert (found.estimate.n, found.estimate.verdict) == (PROCESSES * BLOCKS, "same")
    assert (found.base_speedup, found.head_speedup) == (pytest.approx(2), pytest.approx(2))
    without = there.model_copy(update={"series": tuple(each for each in there.series if each.arm != "reference")})
    assert over_reference(without, "decode") is None


def test_a_phase_that_one_side_timed_is_told_with_its_side(environment) -> None:
    both = timed(2.0).model_copy(update={"environment": environment})
    prefill = tuple(each.model_copy(update={"phase": "prefill"}) for each in both.series)
    more = both.model_copy(update={"series": both.series + prefill})
    for base, head, side in ((both, more, "HEAD"), (more, both, "BASE")):
        found = compare_runs({"k": base}, {"k": head})
        assert [item.reason for item in found.of("not comparable")] == [f"prefill was timed in {side} alone"]
        assert [change.phase for change in found.changes] == ["decode"]
    untimed = both.model_copy(update={"series": ()})
    for base, head, side in ((both, untimed, "BASE"), (untimed, both, "HEAD")):
        found = compare_runs({"k": base}, {"k": head})
        assert [item.reason for item in found.apart] == [f"decode was timed in {side} alone"]
    assert [item.word for item in compare_runs({"k": untimed}, {"k": untimed}).apart] == ["held"]


def test_on_a_gpu_no_reference_is_needed(environment) -> None:
    there = timed(2.0).model_copy(update={"environment": environment})
    alone = there.model_copy(update={"series": tuple(each for each in there.series if each.arm != "reference")})
    assert unlike(there, alone, "decode") is None


def test_what_was_not_committed_is_no_baseline_but_of_itself(environment) -> None:
    dirty = environment.model_copy(update={"dirty": True, "diff_hash": "d"})
    there = timed(2.0).model_copy(update={"environment": dirty})
    assert [change.estimate.verdict for change in compare_runs({"k": there}, {"k": there}).changes] == ["same"]
    other = there.model_copy(update={"run": "another"})
    (found,) = compare_runs({"k": there}, {"k": other}).apart
    assert (found.word, found.reason.split(":")[0]) == ("not comparable", "BASE is from a tree that was not committed")


def test_a_case_that_one_side_never_ran_is_told_with_its_side() -> None:
    there = timed(2.0)
    for base, head, word, reason in (
        ({}, {"k": there}, "added", "BASE has no record of it"),
        ({"k": there}, {}, "lost", "HEAD has no record of it"),
    ):
        assert [(item.word, item.reason) for item in compare_runs(base, head).apart] == [(word, reason)]
    skipped = there.model_copy(update={"status": "skipped", "reason": "no GPU", "series": ()})
    for base, head, word, reason in (
        (skipped, there, "added", "skipped in BASE: no GPU"),
        (there, skipped, "lost", "skipped: no GPU"),
    ):
        assert [(item.word, item.reason) for item in compare_runs({"k": base}, {"k": head}).apart] == [(word, reason)]
    assert compare_runs({"k": skipped}, {"k": skipped}).apart == ()
