"""Faults that only a model cut over several ranks can have, judged by four real ranks together."""

from __future__ import annotations

from pathlib import Path

from harness.build import ranks
from harness.records.case import Case, TimingSettings, WorkloadShape

OFF = TimingSettings(name="off", processes=0, min_blocks=3, max_blocks=3, half_width=0.01, margin=0.02, limit_s=1.0)
CASE = Case(
    model="qwen3_4b_instruct_2507",
    size="tiny",
    optimizations=("tensor_parallel",),
    hardware="cpu_x4",
    workload=WorkloadShape(name="smoke", batch=2, prompt_tokens=16, new_tokens=4, dtype="float16"),
    arms=(),
    timing=OFF,
    seed=0,
    deadline_s=300.0,
)


def test_every_fault_of_the_ranks_is_seen_by_all_and_told_once(tmp_path: Path) -> None:
    """Four of them: two would have a key-value head each, and no place for one that is shared."""
    asked = tmp_path / "case.json"
    asked.write_text(CASE.model_dump_json())
    found = ranks.run((str(asked), "mutants", str(tmp_path / "out.json")), 4)
    assert found.kill_matrix is not None, found.error
    outcomes = found.kill_matrix.outcomes
    assert {item.subject for item in outcomes} == {"ranks"}
    assert {item.end for item in outcomes} == {"killed", "no place"}
    assert {item.name for item in outcomes if item.end == "no place"} == {"ranks: each one adds the bias"}
    assert len({item.name for item in outcomes}) == len(outcomes) >= 12
    asymmetric = next(item for item in outcomes if item.name == "ranks: the first one reads before the sum is there")
    assert asymmetric.where.startswith("rank 0: ")
