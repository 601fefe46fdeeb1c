"""A checkpoint as Hugging Face writes it, expert by expert, loads exactly; a broken one is refused by name."""

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
from models.qwen3_coder_30b import SPEC

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    source = builder.Source.of(SPEC, "tiny", seed=5, weights=None)
    builder.reference(SPEC, source, torch.bfloat16, CPU).save_pretrained(directory)
    return directory


@torch.no_grad()
def test_saved_checkpoint_gives_the_references_logits(checkpoint: Path) -> None:
    builder.check_weights(SPEC, checkpoint)
    assert "model.layers.1.mlp.experts.15.gate_proj.weight" in load_file(checkpoint / "model.safetensors")
    source = builder.Source.of(SPEC, "full", seed=0, weights=str(checkpoint))
    hf = builder.reference(SPEC, source, torch.bfloat16, CPU)
    ours, _ = builder.candidate(builder.BuildConfig(SPEC, source, (), Target(CPU, torch.bfloat16, "none")), hf)
    tokens = torch.arange(40).view(2, 20)
    assert torch.equal(ours(tokens, ours.new_cache(2, 20)), ReferenceModel(hf).logits(ModelInputs(tokens)))


EXPERT = "model.layers.2.mlp.experts.7.down_proj.weight"


def missing(tensors: dict[str, Tensor]) -> None:
    del tensors[EXPERT]


def one_too_many(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.2.mlp.experts.16.down_proj.weight"] = tensors[EXPERT].clone()


def misshaped(tensors: dict[str, Tensor]) -> None:
    tensors[EXPERT] = tensors[EXPERT][:, :4].contiguous()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (missing, r"no tensor for 'model\.layers\.2\.mlp\.experts\.7\.down_proj\.weight' \(1 missing\)"),
        (one_too_many, r"experts\.16\.down_proj.*has 16 experts"),
        (misshaped, r"experts\.7\.down_proj\.weight' has shape \[256, 4\], others of it \[256, 96\]"),
    ],
)
def test_a_damaged_expert_is_named(
    damage: Callable[[dict[str, Tensor]], None], words: str, checkpoint: Path, tmp_path: Path
) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    with pytest.raises(WeightsError, match=words):
        builder.check_weights(SPEC, tmp_path)
