"""A report of a timed case names the kill matrix and the false alarms that are on record, or says that none is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from harness.errors import RecordError
from harness.records.blind_corpus import Round
from harness.records.blind_fault import BlindResult
from harness.records.calibration import Calibration, KernelAlarms, Quantiles
from harness.records.case import Plan
from harness.records.gate_evidence import CalibrationFile, GateRecords, Source, read_gate
from harness.records.kill_matrix import KillMatrix, MutantOutcome
from harness.records.run_file import RunWriter, run_path
from harness.report import gate_section, render
from harness.report.view import build

MATRIX = KillMatrix(outcomes=(MutantOutcome(subject="gemv", name="zeros", kind="zeros", end="killed", level="op"),))
MADE = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def timed(ends):
    return ends[2]["timed"]


def matrix(timed, hours=0, **changes):
    fields = {"series": (), "blocks": (), "kill_matrix": MATRIX} | changes
    fields["started_at"] = (MADE + timedelta(hours=hours)).isoformat()
    return timed.model_copy(update=fields)


def source(record, path="h200/faults.jsonl"):
    return Source(path, "d", record)


def calibration(timed, device="cuda", model=None, refused=0, **machine):
    rule = {"level": "op", "rule": "max", "dtype": "bfloat16", "n": 1000, "median": 0.3, "q99": 0.4, "q999": 0.5}
    return Calibration(
        environment=timed.environment.model_copy(update=machine),
        model=model or timed.case.model,
        size="tiny",
        device=device,
        seeds=tuple(range(30)),
        rules=(Quantiles(**rule, most=0.6, false_alarms=refused),),
        kernels=(KernelAlarms(kernel="gemv", dtype="bfloat16", n=200, refused=0, where=()),),
    )


def test_the_newest_matrix_of_the_same_sources_is_named_with_its_place(timed):
    other = timed.provenance.model_copy(update={"kernel_sources": "other"})
    dirty = timed.environment.model_copy(update={"dirty": True})
    held = (
        source(matrix(timed, 1), "h200/old.jsonl"),
        source(matrix(timed, 2), "h200/new.jsonl"),
        source(matrix(timed, 3, provenance=other), "h200/other_sources.jsonl"),
        source(matrix(timed, 4, environment=dirty), "h200/dirty.jsonl"),
    )
    faults, _ = gate_section.lines(timed, GateRecords(held))
    assert "1 of 1 planted faults seen (100.0%), at size full, 2026-03-01T02:00:00+00:00 (h200/new.jsonl)" in faults


def test_the_newest_calibration_of_the_same_kind_of_device_is_named(timed):
    made = (
        CalibrationFile("calibration/old.json", calibration(timed, refused=5)),
        CalibrationFile("calibration/new.json", calibration(timed, refused=1)),
        CalibrationFile("calibration/cpu.json", calibration(timed, device="cpu", gpu=None)),
        CalibrationFile("calibration/b200.json", calibration(timed, gpu="NVIDIA B200")),
        CalibrationFile("calibration/model.json", calibration(timed, model="another")),
    )
    _, alarms = gate_section.lines(timed, GateRecords((), made))
    assert "1 of 1,000 (0.100%) right answers refused over 30 seeds, and 0 of 200 (0.000%) checks of kernels" in alarms
    assert alarms.endswith("(calibration/new.json).")


def test_blind_faults_are_told_with_the_first_judgment_of_this_kind_of_machine(timed):
    held = [
        BlindResult(fault="a", commit="c", hardware="h200_x2", end="passed"),
        BlindResult(fault="a", commit="d", hardware="h200", end="refused"),
        BlindResult(fault="b", commit="c", hardware="h200", end="crashed"),
        BlindResult(fault="b", commit="c", hardware="cpu", end="refused"),
    ]
    *_, blind = gate_section.lines(timed, GateRecords(blind=(Round(2, (), tuple(held)),)))
    assert "round 2, all models, on h200: 0 of 1 refused, 1 crashed when they came; 1 of 1 refused, 1 crashed" in blind


def test_a_report_says_plainly_that_nothing_is_on_record(timed):
    alone = Plan(cases=(timed.case,), skipped=())
    made = build([timed.model_copy(update={"plan": alone.hash})], alone, "run")
    for text in (render.html(made) | render.markdown(made)).values():
        assert "No kill matrix of its kernel sources is on record" in text
        assert "its false-alarm rate is not known" in text


def test_both_are_read_from_a_folder_of_records(timed, tmp_path):
    assert read_gate(tmp_path / "nothing", tmp_path / "nothing") == GateRecords()
    record = matrix(timed)
    with RunWriter(run_path(tmp_path, "h200", record.run), record.run, Plan(cases=(record.case,), skipped=())) as file:
        file.append(record.model_copy(update={"plan": Plan(cases=(record.case,), skipped=()).hash}))
    folder = tmp_path / "calibration"
    folder.mkdir()
    for name in ("cuda-20260302T000000-c-m-tiny.json", "cuda-20260301T000000-c-m-tiny.json"):
        (folder / name).write_text(calibration(timed).model_dump_json())
    found = read_gate(tmp_path)
    assert [one.record.kill_matrix for one in found.matrices] == [MATRIX]
    assert found.calibration_of(timed).path == "calibration/cuda-20260302T000000-c-m-tiny.json"
    (folder / "cuda-20260303T000000-c-m-tiny.json").write_text("{}")
    with pytest.raises(RecordError, match="is no calibration"):
        read_gate(tmp_path)
