"""A checkpoint as Hugging Face writes it, expert by expert, loads exactly; what is published beside the model is passed
over, and anything else that is unknown or missing is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.build import builder
from harness.errors import WeightsError
from harness.parity.reference.reference_model import ReferenceModel
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Target
from models.glm_4_7 import SPEC

CPU = torch.device("cpu")
CORRECTION = "model.layers.2.mlp.gate.e_score_correction_bias"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    source = builder.Source.of(SPEC, "tiny", seed=5, weights=None)
    builder.reference(SPEC, source, torch.bfloat16, CPU).save_pretrained(directory)
    return directory


def agrees(directory: Path) -> bool:
    builder.check_weights(SPEC, directory)
    source = builder.Source.of(SPEC, "full", seed=0, weights=str(directory))
    hf = builder.reference(SPEC, source, torch.bfloat16, CPU)
    ours, _ = builder.candidate(builder.BuildConfig(SPEC, source, (), Target(CPU, torch.bfloat16, "none")), hf)
    tokens = torch.arange(40).view(2, 20)
    return torch.equal(ours(tokens, ours.new_cache(2, 20)), ReferenceModel(hf).logits(ModelInputs(tokens)))


@torch.no_grad()
def test_saved_checkpoint_gives_the_references_logits(checkpoint: Path) -> None:
    held = load_file(checkpoint / "model.safetensors")
    assert "model.layers.1.mlp.experts.15.gate_proj.weight" in held
    assert held[CORRECTION].dtype == torch.float32
    assert float(held[CORRECTION].std()) > 0.05
    assert agrees(checkpoint)


def damaged(checkpoint: Path, directory: Path, damage: Callable[[dict[str, Tensor]], None]) -> Path:
    tensors = load_file(checkpoint / "model.safetensors")
    damage(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text((checkpoint / "config.json").read_text())
    return directory


@torch.no_grad()
def test_the_layer_that_predicts_a_second_token_is_passed_over(checkpoint: Path, tmp_path: Path) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["model.layers.3.mlp.experts.0.gate_proj.weight"] = torch.zeros(2, 2)
        tensors["model.layers.3.shared_head.norm.weight"] = torch.zeros(2)

    assert agrees(damaged(checkpoint, tmp_path, add))


def test_without_such_a_layer_in_the_config_it_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["model.layers.3.shared_head.norm.weight"] = torch.zeros(2)

    damaged(checkpoint, tmp_path, add)
    config = json.loads((checkpoint / "config.json").read_text())
    named = {name for name in config if name in ("num_mtp_layers", "num_nextn_predict_layers")}
    (tmp_path / "config.json").write_text(json.dumps({**config, **dict.fromkeys(named, 0)}))
    assert len(named) == 1
    with pytest.raises(WeightsError, match=r"model\.layers\.3\.shared_head\.norm\.weight.*no place"):
        builder.check_weights(SPEC, tmp_path)


def correction_missing(tensors: dict[str, Tensor]) -> None:
    del tensors[CORRECTION]


def bias_missing(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.0.self_attn.k_proj.bias"]


def shared_expert_missing(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.2.mlp.shared_experts.up_proj.weight"]


def correction_misshaped(tensors: dict[str, Tensor]) -> None:
    tensors[CORRECTION] = torch.zeros(15)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (correction_missing, r"layers\.2\.mlp\.routed\.router\.correction' \(1 missing\)"),
        (bias_missing, r"layers\.0\.attention\.qkv\.k_proj\.bias' \(1 missing\)"),
        (shared_expert_missing, r"layers\.2\.mlp\.shared\.gate_up\.up_proj\.weight' \(1 missing\)"),
        (correction_misshaped, r"e_score_correction_bias' has shape \[15\], the model needs \[16\]"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name(
    damage: Callable[[dict[str, Tensor]], None], words: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=words):
        builder.check_weights(SPEC, damaged(checkpoint, tmp_path, damage))
