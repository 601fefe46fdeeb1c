"""A kernel that writes memory which is not its own is launched no more, and what it was refused for is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.build import builder, registry
from harness.parity.gate import prove
from harness.parity.kernels.fixed_menu import ITEMS
from harness.records.checks import Check
from harness.records.proof_size import ProofSize
from harness.spec.kernel import Cost, Kernel, OpCase
from harness.spec.optimization import Menu, Optimization, Receipt, Target

CPU = Target(torch.device("cpu"), torch.float16, "interpreted")


def cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for size in (5, 7, 64):
        yield OpCase(f"{size} numbers", {"x": torch.randn(size, generator=generator, device=device).to(dtype)})


def test_the_levels_above_do_not_run_it_and_say_why() -> None:
    launched: list[int] = []

    def overrunning(x: Tensor) -> Mapping[str, Tensor]:
        launched.append(len(x))
        x.as_strided((1,), (1,), x.storage_offset() + len(x)).fill_(1.0)
        return {"y": x * 2}

    def apply(model: Any, target: Target) -> Receipt:
        raise AssertionError("a build was made with a kernel that overruns")

    kernel = Kernel(
        "overrun",
        overrunning,
        lambda x: {"y": x * 2},
        cases,
        lambda **_: Cost(0, 0),
        lambda _: (),
        inapplicable=dict.fromkeys(ITEMS, "of no matter here"),
    )
    spec = registry.load("qwen3_4b_instruct_2507")
    item = Optimization("shady", "overruns its input", "exact", apply, kernels=(kernel,))
    spec = replace(spec, menu=Menu((item,), ("shady",)))
    config = builder.BuildConfig(spec, builder.Source.of(spec, "tiny", 0, None), ("shady",), CPU)
    kept: list[Check] = []
    parity = prove(config, ProofSize(1, 8, 2), lambda *_: None, None, kept.extend).parity
    assert set(launched) == {5}, "it was launched on the first case of each type alone"
    assert not parity.passed
    assert parity.first_divergence is not None
    assert parity.first_divergence.rule == "out-of-bounds write"
    assert tuple(kept) == parity.checks
    assert [note.level for note in parity.not_judged][-4:] == ["layer", "logits", "generation", "path"]
    assert "overrun writes memory" in parity.not_judged[-1].reason
