"""A failure is saved with its inputs, and replayed until the code is right again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harness import build, registry, replay
from harness.checks import Parity
from harness.mutants.models import pristine
from harness.parity.bench import Bench, Extent
from harness.parity.reproducer import Reproducer, capture
from harness.spec import Mutant, Target

MODEL = "qwen3_4b_instruct_2507"
CPU = Target(torch.device("cpu"), torch.float32, "none")
EXTENT = Extent(2, 12, 4)


def planted(mutant: Mutant) -> object:
    """The model's spec with the fault in every build."""
    spec = registry.load(MODEL)

    def build_wrong(*arguments: object) -> nn.Module:
        model = pristine(spec.build(*arguments))
        assert mutant.apply(model)
        return model

    return replace(spec, build=build_wrong)


@torch.no_grad()
def test_a_wrong_layer_is_saved_still_fails_and_passes_once_mended(tmp_path: Path) -> None:
    right = registry.load(MODEL)
    mutant = next(item for item in right.mutants if item.name == "last layer: attention not added")
    wrong = planted(mutant)
    source = build.Source.of(right, "tiny", 0, None)
    bench = Bench.fp32(wrong, source, (), CPU, EXTENT)
    checks = tuple(check for level in bench.in_fp32() for check in level)
    last = source.config["num_hidden_layers"] - 1
    assert bench.divergence is not None
    assert bench.divergence.layer == last
    saved = capture(wrong, source, "tiny", (), CPU, EXTENT, Parity(checks=checks))
    assert saved is not None
    again = Reproducer.load(saved.save(tmp_path / "case"))
    assert [check.subject for check in again.run(wrong) if not check.passed] == [f"layer {last}"]
    assert all(check.passed for check in again.run(right))


def test_the_command_says_whether_it_still_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test_a_wrong_layer_is_saved_still_fails_and_passes_once_mended(tmp_path)
    assert replay.main([str(tmp_path / "case.json")]) == 0
    assert "passes now" in capsys.readouterr().out
    (tmp_path / "case.safetensors").write_bytes(b"cut")
    assert replay.main([str(tmp_path / "case.json")]) == 2
    assert "no reproducer that can be run" in capsys.readouterr().err
