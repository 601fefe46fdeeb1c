"""A checkpoint written by Hugging Face loads exactly; a broken one is refused by the name of what is wrong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.build import builder
from harness.build.checkpoint import load, read_safetensors
from harness.errors import WeightsError
from harness.parity.reference.reference_model import ReferenceModel
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Target
from models.qwen3_4b_instruct_2507 import SPEC

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    source = builder.Source.of(SPEC, "tiny", seed=5, weights=None)
    builder.reference(SPEC, source, torch.bfloat16, CPU).save_pretrained(directory, max_shard_size="4MB")
    return directory


@torch.no_grad()
def test_saved_checkpoint_gives_the_references_logits(checkpoint: Path) -> None:
    source = builder.Source.of(SPEC, "full", seed=0, weights=str(checkpoint))
    hf = builder.reference(SPEC, source, torch.bfloat16, CPU)
    ours, _ = builder.candidate(builder.BuildConfig(SPEC, source, ("linear",), Target(CPU, torch.bfloat16, "none")), hf)
    tokens = torch.arange(40).view(2, 20)
    assert len(list(checkpoint.glob("*.safetensors"))) > 1
    assert torch.allclose(
        ours(tokens, ours.new_cache(2, 20)), ReferenceModel(hf).logits(ModelInputs(tokens)), atol=0.05
    )


def test_checkpoint_survives_the_round_trip_bit_for_bit(checkpoint: Path) -> None:
    source = builder.Source.of(SPEC, "tiny", seed=5, weights=None)
    written = dict(builder.reference(SPEC, source, torch.bfloat16, CPU).named_parameters())
    read = dict(read_safetensors(checkpoint, CPU))
    assert set(read) == set(written)
    assert all(torch.equal(read[name], written[name]) for name in written)


def tensors() -> dict[str, torch.Tensor]:
    source = builder.Source.of(SPEC, "tiny", seed=5, weights=None)
    hf = builder.reference(SPEC, source, torch.float32, CPU)
    return {name: parameter.data for name, parameter in hf.named_parameters()}


def missing(all_tensors: dict[str, torch.Tensor]) -> None:
    del all_tensors["model.layers.2.mlp.up_proj.weight"]


def unknown(all_tensors: dict[str, torch.Tensor]) -> None:
    all_tensors["model.layers.0.mlp.router.weight"] = torch.zeros(2)


def misshaped(all_tensors: dict[str, torch.Tensor]) -> None:
    all_tensors["model.norm.weight"] = torch.ones(7)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (missing, r"layers\.2\.mlp\.gate_up\.up_proj\.weight"),
        (unknown, r"layers\.0\.mlp\.router\.weight.*no place"),
        (misshaped, r"model\.norm\.weight.*\[7\].*\[320\]"),
    ],
)
def test_damaged_tensors_are_named(damage: object, words: str) -> None:
    damaged = tensors()
    damage(damaged)  # type: ignore[operator]
    model = SPEC.build(SPEC.sizes["tiny"], torch.float32, CPU)
    with pytest.raises(WeightsError, match=words):
        load(model, damaged.items(), SPEC.rename)


def test_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin.*run code"):
        list(read_safetensors(tmp_path, CPU))


def test_truncated_file_is_named(tmp_path: Path, checkpoint: Path) -> None:
    whole = next(checkpoint.glob("*.safetensors")).read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        list(read_safetensors(tmp_path, CPU))


def test_index_may_not_point_outside(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}')
    with pytest.raises(WeightsError, match="outside"):
        list(read_safetensors(tmp_path, CPU))
