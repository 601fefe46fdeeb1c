"""A failure is saved with its inputs, and replayed until the code is right again."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.build import builder, registry
from harness.commands.main import main
from harness.execution import worker
from harness.faults.model_faults import pristine
from harness.parity.diagnosis.capture import capture
from harness.parity.diagnosis.reproducer import Reproducer
from harness.parity.gate import prove
from harness.parity.parity_run import ParityRun
from harness.records import proof_size
from harness.records.case import Case, TimingSettings, WorkloadShape
from harness.records.checks import Parity
from harness.records.partial_record import REPRODUCER, PartialRecord
from harness.records.proof_size import ProofSize
from harness.spec.model import ModelSpec
from harness.spec.mutant import Mutant
from harness.spec.optimization import Target

MODEL = "qwen3_4b_instruct_2507"
CPU = Target(torch.device("cpu"), torch.float32, "none")
EXTENT = ProofSize(2, 12, 4)
OFF = TimingSettings(name="off", processes=0, min_blocks=3, max_blocks=3, half_width=0.01, margin=0.02, limit_s=1.0)


def planted(mutant: Mutant, name: str = MODEL) -> ModelSpec:
    """The model's spec with the fault in every build."""
    spec = registry.load(name)

    def build_wrong(*arguments: Any) -> nn.Module:
        model = pristine(spec.build(*arguments))
        assert mutant.apply(model)
        return model

    return replace(spec, build=build_wrong)


def proven(model: str, fault: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PartialRecord, ModelSpec]:
    """What the worker says of a model with the fault in it, and that model."""
    right = registry.load(model)
    wrong = planted(next(item for item in right.mutants if item.name == fault), model)
    case = Case(
        model=model,
        size="tiny",
        optimizations=(),
        hardware="cpu",
        workload=WorkloadShape(name="smoke", batch=2, prompt_tokens=16, new_tokens=64, dtype="float16"),
        arms=(),
        timing=OFF,
        seed=0,
        deadline_s=60.0,
    )
    (folder / "case.json").write_text(case.model_dump_json())
    monkeypatch.setattr(worker.registry, "load", lambda _: wrong)
    monkeypatch.setattr(proof_size, "CPU_PROOF_SIZE", ProofSize(2, 16, 2))
    assert worker.main([str(folder / "case.json"), "prove", str(folder / "out.json")]) == 0
    return PartialRecord.model_validate_json((folder / "out.json").read_text()), wrong


@pytest.mark.parametrize(
    ("model", "fault", "place", "dtype"),
    [
        ("qwen3_vl_2b", "tower: feed-forward one percent too large", "tower block 0 (attention and MLP", "float32"),
        ("qwen3_vl_2b", "text behind images one position too far", "positions", "float32"),
        (MODEL, "head without its last row", "final norm and head", "float32"),
        (MODEL, "decode: value slot stale", "layer 0, value_cached (cache write)", "float16"),
        ("qwen3_coder_30b", "router names the neighbor of each expert", "layer 0, router (router)", "float32"),
    ],
)
def test_what_is_no_output_of_a_layer_is_named_and_saved_too(
    model: str, fault: str, place: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = registry.load(model)
    found, wrong = proven(model, fault, tmp_path, monkeypatch)
    assert (found.status, found.error) == ("failed", None)
    assert found.parity is not None
    assert found.parity.first_divergence is not None
    assert place in found.parity.first_divergence.sentence()
    saved = Reproducer.load(tmp_path / f"out{REPRODUCER}.json")
    assert saved.asked.dtype == dtype
    with torch.no_grad():
        assert any(not check.passed for check in saved.run(wrong))
        assert all(check.passed for check in saved.run(right))


@torch.no_grad()
def test_a_wrong_layer_is_saved_still_fails_and_passes_once_mended(tmp_path: Path) -> None:
    right = registry.load(MODEL)
    mutant = next(item for item in right.mutants if item.name == "last layer: attention not added")
    wrong = planted(mutant)
    source = builder.Source.of(right, "tiny", 0, None)
    run = ParityRun.fp32(builder.BuildConfig(wrong, source, (), CPU), EXTENT)
    checks = tuple(check for level in run.in_fp32() for check in level)
    last = source.config["num_hidden_layers"] - 1
    assert run.divergence is not None
    assert run.divergence.layer == last
    config = builder.BuildConfig(wrong, source, (), CPU)
    saved = capture(config, "tiny", EXTENT, Parity(checks=checks), {"linear.rows": 8})
    assert saved is not None
    again = Reproducer.load(saved.save(tmp_path / "case"))
    assert again.asked.parameters == {"linear.rows": 8}
    assert [check.subject for check in again.run(wrong) if not check.passed] == [f"layer {last}"]
    assert all(check.passed for check in again.run(right))


@torch.no_grad()
def test_what_trained_like_weights_alone_show_is_saved_with_them(tmp_path: Path) -> None:
    right = registry.load("qwen3_coder_30b")

    def light_dropped(_: nn.Module, given: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        x, ids, weights = given
        return x, ids, weights.where(weights >= 0.02, 0)

    def build_wrong(*arguments: Any) -> nn.Module:
        model = pristine(right.build(*arguments))
        for layer in model.layers:
            layer.mlp.experts.register_forward_pre_hook(light_dropped)
        return model

    wrong = replace(right, build=build_wrong)
    config = builder.BuildConfig(wrong, builder.Source.of(right, "tiny", 0, None), (), CPU)
    parity = prove(config, EXTENT, lambda *_: None).parity
    layers = tuple(check for check in parity.failures() if check.level == "layer")
    whole = tuple(check for check in parity.failures() if check.level != "layer")
    for kind, failures in (("layer", layers), ("whole", whole)):
        saved = capture(config, "tiny", EXTENT, Parity(checks=failures))
        assert saved is not None
        again = Reproducer.load(saved.save(tmp_path / kind))
        assert (again.asked.kind, again.asked.recipe) == (kind, "trained_like")
        assert any(not check.passed for check in again.run(wrong))
        assert all(check.passed for check in again.run(right))


@torch.no_grad()
def test_a_build_that_runs_free_shows_the_layer_from_which_it_errs() -> None:
    right = registry.load(MODEL)
    source, half = builder.Source.of(right, "tiny", 0, None), replace(CPU, dtype=torch.bfloat16)
    wrong = planted(next(item for item in right.mutants if item.name == "last layer: feed-forward skipped"))
    assert ParityRun(builder.BuildConfig(right, source, (), half), EXTENT).drift() is None
    drift = ParityRun(builder.BuildConfig(wrong, source, (), half), EXTENT).drift()
    assert drift is not None
    assert drift.layer == source.config["num_hidden_layers"] - 1
    assert drift.ratio > 1.25
    assert "behind layer" in Parity(checks=(), drift=drift).refusal()


def test_the_command_says_whether_it_still_fails(tmp_path: Path) -> None:
    test_a_wrong_layer_is_saved_still_fails_and_passes_once_mended(tmp_path)
    out, err = io.StringIO(), io.StringIO()
    assert main(["replay", str(tmp_path / "case.json")], out, err) == 0
    assert "passes now" in out.getvalue()
    (tmp_path / "case.safetensors").write_bytes(b"cut")
    assert main(["replay", str(tmp_path / "case.json")], out, err) == 2
    assert "no reproducer that can be run" in err.getvalue()
