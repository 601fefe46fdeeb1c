"""Kernels are compiled ahead of their judgment in shares, each launch in one of them."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.build import registry
from harness.parity.kernels.precompile import precompile, share_of
from harness.records.case import Case, TimingSettings, WorkloadShape
from harness.spec.kernel import Kernel, OpCase

MODEL = "qwen3_4b_instruct_2507"


def asked(*optimizations: str) -> Case:
    timing = TimingSettings(
        name="off", processes=0, min_blocks=3, max_blocks=3, half_width=0.01, margin=0.02, limit_s=1.0
    )
    workload = WorkloadShape(name="smoke", batch=1, prompt_tokens=4, new_tokens=2, dtype="float16")
    return Case(
        model=MODEL,
        size="tiny",
        optimizations=optimizations,
        hardware="h200",
        workload=workload,
        arms=(),
        timing=timing,
        seed=0,
        deadline_s=60.0,
    )


def shape_of(launch: tuple[Kernel, OpCase]) -> tuple[str, str, str]:
    kernel, entry = launch
    return kernel.name, entry.name, str(next(x.dtype for x in entry.inputs.values() if isinstance(x, torch.Tensor)))


def test_every_launch_is_in_one_share() -> None:
    spec, case, device = registry.load(MODEL), asked("fused_layers"), torch.device("cpu")
    whole = [shape_of(launch) for launch in share_of(spec, case, device, 0, 1)]
    shares = [[shape_of(launch) for launch in share_of(spec, case, device, share, 3)] for share in range(3)]
    assert {name for name, _, _ in whole} == {"rms_norm", "add_rms_norm", "swiglu"}
    assert {dtype for _, _, dtype in whole} == {"torch.float32", "torch.float16"}
    assert sorted(launch for share in shares for launch in share) == sorted(whole)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_that_fails_leaves_the_verdict_to_the_proof(tmp_path: Path) -> None:
    nothing = tmp_path / "case.json"
    nothing.write_text("not a case")
    precompile(nothing)
