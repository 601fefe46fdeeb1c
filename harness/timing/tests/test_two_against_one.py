"""A model that two ranks hold is timed beside the same stack on one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.execution import worker
from harness.records import partial_record
from harness.records.case import Case


def test_both_are_timed_in_turns_and_judged_again(make_case: Callable[..., Case], tmp_path: Path) -> None:
    asked = make_case(
        model="qwen3_4b_instruct_2507",
        optimizations=("tensor_parallel", "kv_cache", "linear"),
        arms=("reference", "one_device"),
        deadline_s=120.0,
    )
    case, left = tmp_path / "case.json", tmp_path / "out.json"
    case.write_text(asked.model_dump_json())
    worker.main([str(case), "time", str(left)])
    found = partial_record.read(left)
    assert found.status == "passed", found.error
    arms = {arm.name: (arm.label, arm.rechecked, arm.absent) for arm in found.arms}
    assert arms["one_device"] == ("the same stack on one device", True, None)
    assert arms["candidate"] == ("tensor_parallel+kv_cache+linear", True, None)
    timed = {(series.arm, series.phase) for series in found.series}
    assert {(arm, phase) for arm in arms for phase in ("prefill", "decode")} == timed
