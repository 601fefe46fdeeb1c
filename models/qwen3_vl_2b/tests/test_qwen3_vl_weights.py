"""A checkpoint written by Hugging Face loads exactly, tower and all; a broken one is refused by what is wrong."""

from pathlib import Path

import pytest
import torch

from harness.build import builder, inputs
from harness.build.checkpoint import load
from harness.errors import WeightsError
from harness.parity.reference.reference_model import ReferenceModel
from harness.parity.tolerance.rules import relative_frobenius
from harness.spec.optimization import Target
from models.qwen3_vl_2b import SPEC

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    source = builder.Source.of(SPEC, "tiny", seed=5, weights=None)
    builder.reference(SPEC, source, torch.float32, CPU).save_pretrained(directory, max_shard_size="4MB")
    return directory


@torch.no_grad()
def test_saved_checkpoint_gives_the_references_logits(checkpoint: Path) -> None:
    source = builder.Source.of(SPEC, "full", seed=0, weights=str(checkpoint))
    hf = builder.reference(SPEC, source, torch.float32, CPU)
    ours, _ = builder.candidate(builder.BuildConfig(SPEC, source, ("linear",), Target(CPU, torch.float32, "none")), hf)
    shown = inputs.draw(SPEC, source.config, 40, [2, 1, 0], 0, "weights")
    theirs = ReferenceModel(hf, None, SPEC.decoder, SPEC.vision).logits(shown)
    assert len(list(checkpoint.glob("*.safetensors"))) > 1
    assert relative_frobenius(ours(shown.tokens, inputs.prepared(ours, shown, 40)), theirs) < 1e-5


def test_a_checkpoint_is_checked_from_its_headers(checkpoint: Path) -> None:
    builder.check_weights(SPEC, checkpoint)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.visual.patch_embed.proj.bias", r"tower\.embedding\.bias"),
        ("model.visual.deepstack_merger_list.1.linear_fc2.weight", r"tower\.deep_mergers\.1\.down\.weight"),
        ("model.language_model.layers.3.self_attn.k_norm.weight", r"layers\.3\.attention\.rotary\.k_norm\.weight"),
    ],
)
def test_a_missing_tensor_is_named(name: str, words: str) -> None:
    source = builder.Source.of(SPEC, "tiny", seed=5, weights=None)
    hf = builder.reference(SPEC, source, torch.float32, CPU)
    tensors = {key: parameter.data for key, parameter in hf.named_parameters()}
    del tensors[name]
    model = SPEC.build(SPEC.sizes["tiny"], torch.float32, CPU)
    with pytest.raises(WeightsError, match=words):
        load(model, tensors.items(), SPEC.rename)
