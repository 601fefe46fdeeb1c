"""A phase that launched what its proof did not has no speed, and says why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import RecordError
from harness.records.case import Case
from harness.records.checks import Check, Parity
from harness.records.partial_record import PartialRecord, merge
from harness.records.record import Phase, PhaseDispatches, Record, Series

RIGHT = Check(level="op", subject="k", name="y", rule="max", error=0, noise=0, limit=1)
SMALL, LARGE = "attend(bfloat16; SPLITS=1; grid 1x1x1)", "attend(bfloat16; SPLITS=9; grid 1x1x1)"


def proof(dispatches: tuple[str, ...] | None) -> PartialRecord:
    return PartialRecord(status="passed", parity=Parity(checks=(RIGHT,), dispatches=dispatches))


def timing(process: int, **launched: tuple[str, ...]) -> PartialRecord:
    phases: tuple[Phase, ...] = ("prefill", "decode")
    return PartialRecord(
        status="passed",
        series=tuple(Series(arm="a", phase=p, process=process, samples_ms=(1.0,), blocks=(0,)) for p in phases),
        dispatches=tuple(PhaseDispatches(phase=p, launched=launched.get(p, ())) for p in phases),
    )


def test_what_was_proven_keeps_its_speed() -> None:
    fields = merge(proof((LARGE, SMALL)), [timing(0, decode=(LARGE,)), timing(1, decode=(SMALL,))])
    assert {series.phase for series in fields["series"]} == {"prefill", "decode"}
    assert fields["dispatches"][1].launched == (SMALL, LARGE)
    assert fields["timing_notes"] == ()


@pytest.mark.parametrize("proven", [(SMALL,), (), None])
def test_a_phase_that_launched_something_else_has_none(proven: tuple[str, ...] | None) -> None:
    fields = merge(proof(proven), [timing(0, decode=(SMALL,)), timing(1, decode=(LARGE,))])
    assert {series.phase for series in fields["series"]} == {"prefill"}
    (note,) = fields["timing_notes"]
    count = "1 launch" if proven else "2 launches"
    assert f"decode: speed withheld, not proven at this size: {count} of attend" in note


def test_where_nothing_of_ours_is_launched_nothing_is_withheld() -> None:
    fields = merge(proof(()), [timing(0)])
    assert len(fields["series"]) == 2
    assert [phase.launched for phase in fields["dispatches"]] == [(), ()]


def test_a_timing_from_before_launches_were_named_is_merged_as_it_was() -> None:
    old = timing(0).model_copy(update={"dispatches": None})
    fields = merge(proof(None), [old])
    assert (len(fields["series"]), fields["dispatches"], fields["timing_notes"]) == (2, None, ())


def test_a_record_of_a_speed_that_was_not_proven_cannot_be_built(make_case: Callable[..., Case]) -> None:
    case, part = make_case(), timing(0, decode=(LARGE,))
    fields = {"run": "r", "plan": "p", "case": case, "key": case.key, "status": "passed", "started_at": "", "wall_s": 1}
    fields |= {"parity": proof((SMALL,)).parity, "dispatches": part.dispatches}
    with pytest.raises(RecordError, match="a speed of a decode whose launches no proof has seen"):
        Record(**fields, series=part.series)
    assert Record(**fields, series=part.series[:1]).series
