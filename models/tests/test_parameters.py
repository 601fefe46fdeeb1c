"""What a case tells an optimization reaches the modules that it builds, and every gate judges that build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.build import builder, registry
from harness.execution import worker
from harness.faults.fault_trials import Trial
from harness.records import proof_size
from harness.records.case import Case, TimingSettings, WorkloadShape
from harness.records.partial_record import PartialRecord
from harness.records.proof_size import ProofSize
from harness.spec.model import ModelSpec
from harness.spec.optimization import Optimization, Target
from harness.spec.parameter import Parameter

INTERPRETED = Target(torch.device("cpu"), torch.float16, "interpreted")
HELD = {
    "rows": "rows",
    "max_splits": "max_splits",
    "vector_max_tokens": "few",
    "tile_max_tokens": "dozens",
    "max_tokens": "max_tokens",
    "kept_calls": "kept_calls",
}
"""Parameter -> the attribute of a module, or of what replays prompts, that holds it."""
ON_DEVICE = {"cuda_kernels", "one_shot_all_reduce"}
"""They compile CUDA C++ when they are applied."""
MODEL = "qwen3_4b_instruct_2507"
OFF = TimingSettings(name="off", processes=0, min_blocks=3, max_blocks=3, half_width=0.01, margin=0.02, limit_s=1.0)


def declared() -> Iterator[Any]:
    for name in registry.names():
        for item in registry.load(name).menu.items:
            for parameter in item.parameters if item.name not in ON_DEVICE else ():
                yield pytest.param(name, item, parameter, id=f"{name}-{item.name}-{parameter.name}")


def built(spec: ModelSpec, name: str) -> Any:
    """A tiny build of zeros with one optimization."""
    model = spec.build(spec.sizes["tiny"], INTERPRETED.dtype, INTERPRETED.device)
    for parameter in model.parameters():
        parameter.data = torch.zeros_like(parameter)
    builder.optimize(spec, model, (name,), INTERPRETED)
    return model


def held(model: Any, parameter: str) -> set[Any]:
    if parameter == "page_tokens":
        return {model.new_cache(1, 300).layers[0].keys.shape[2]}
    if parameter == "block_tokens":
        return {model.prefixes.page_tokens}
    return {getattr(part, HELD[parameter], None) for part in (*model.modules(), model.compute)} - {None}


@pytest.mark.parametrize(("name", "item", "parameter"), list(declared()))
def test_the_smallest_and_the_largest_value_reach_the_build(
    name: str, item: Optimization, parameter: Parameter
) -> None:
    for value in (parameter.allowed[0], parameter.allowed[-1]):
        spec = registry.load(name).made_with({f"{item.name}.{parameter.name}": value})
        assert held(built(spec, item.name), parameter.name) == {value}


@pytest.mark.parametrize("page_tokens", [16, 32])
def test_a_page_size_is_proven_as_it_is_asked_for(
    page_tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof_size, "CPU_PROOF_SIZE", ProofSize(2, 16, 17))
    case = Case(
        model=MODEL,
        size="tiny",
        optimizations=("kv_cache_paged",),
        hardware="cpu",
        workload=WorkloadShape(name="smoke", batch=2, prompt_tokens=16, new_tokens=64, dtype="float16"),
        arms=(),
        timing=OFF,
        seed=0,
        deadline_s=60.0,
        parameters={"kv_cache_paged.page_tokens": page_tokens},
    )
    asked, out = tmp_path / "case.json", tmp_path / "out.json"
    asked.write_text(case.model_dump_json())
    assert worker.main([str(asked), "prove", str(out)]) == 0
    found = PartialRecord.model_validate_json(out.read_text())
    assert (found.status, found.error) == ("passed", None)
    assert found.receipts[0].notes == (f"pages of {page_tokens} tokens",)


def test_faults_are_planted_in_the_build_that_the_case_asks_for() -> None:
    told = {"kv_cache_paged.page_tokens": 16}
    spec = Trial(MODEL, "tiny", 0, None, ("kv_cache_paged",), INTERPRETED, ProofSize(1, 8), told).spec()
    assert held(built(spec, "kv_cache_paged"), "page_tokens") == {16}
