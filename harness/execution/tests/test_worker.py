"""However a part of a case ends, its fragment says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError, WeightsError
from harness.execution import worker
from harness.records.case import Case, TimingSettings, WorkloadShape
from harness.records.partial_record import PartialRecord

OFF = TimingSettings(name="off", processes=0, min_blocks=3, max_blocks=3, half_width=0.01, margin=0.02, limit_s=1.0)
CASE = Case(
    model="qwen3_4b_instruct_2507",
    size="tiny",
    optimizations=(),
    hardware="cpu",
    workload=WorkloadShape(name="smoke", batch=1, prompt_tokens=4, new_tokens=2, dtype="float16"),
    arms=(),
    timing=OFF,
    seed=0,
    deadline_s=60.0,
)


def ended(error: Exception, folder: Path, monkeypatch: pytest.MonkeyPatch) -> PartialRecord:
    def raises(name: str) -> None:
        raise error

    monkeypatch.setattr(worker.registry, "load", raises)
    asked, out = folder / "case.json", folder / "out.json"
    asked.write_text(CASE.model_dump_json())
    assert worker.main([str(asked), "prove", str(out)]) == 0
    return PartialRecord.model_validate_json(out.read_text())


@pytest.mark.parametrize("error", [HarnessError("the twin's outputs differ"), ValueError("not 3 heads")])
def test_a_fault_of_the_code_is_told_with_its_place(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ended(error, tmp_path, monkeypatch)
    assert (found.status, found.error and found.error.message) == ("crashed", str(error))
    assert found.error is not None
    assert "in raises" in found.error.traceback
    assert str(Path(worker.__file__).parents[2]) not in found.error.traceback


def test_what_the_user_can_mend_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ended(WeightsError("no tensor 'norm.weight'"), tmp_path, monkeypatch)
    assert found.error is not None
    assert (found.error.kind, found.error.traceback) == ("WeightsError", "")
