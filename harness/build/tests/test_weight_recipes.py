"""Weight recipes change what was drawn, the same way every time, and know what they change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.build import builder, registry
from harness.build.recipes.residual_stream import COMMON, MASSIVE, SINK_TOKEN, Stream
from harness.build.recipes.sharp_attention import Channels
from harness.build.recipes.weight_recipes import begun
from harness.errors import HarnessError
from harness.records.weight_recipe import WeightRecipe
from harness.spec.model import ModelSpec
from harness.spec.model_inputs import ModelInputs

CPU = torch.device("cpu")


def drawn(
    spec: ModelSpec, recipe: WeightRecipe, seed: int = 0, dtype: torch.dtype = torch.bfloat16
) -> dict[str, Tensor]:
    source = replace(builder.Source.of(spec, "tiny", seed, None), recipe=recipe)
    return dict(builder.reference(spec, source, dtype, CPU).named_parameters())


@pytest.mark.parametrize("name", registry.names())
def test_a_recipe_follows_from_the_seed_and_changes_what_was_drawn(name: str) -> None:
    spec = registry.load(name)
    once, again, other = (drawn(spec, "trained_like", seed) for seed in (0, 0, 1))
    plain = drawn(spec, "random")
    assert once.keys() == plain.keys()
    assert all(torch.equal(tensor, again[key]) for key, tensor in once.items())
    assert all(tensor.dtype == torch.bfloat16 and bool(tensor.isfinite().all()) for tensor in once.values())
    changed = {key for key, tensor in once.items() if not torch.equal(tensor, plain[key])}
    assert all(path in " ".join(changed) for path in spec.anatomy.writes)
    assert all(not torch.equal(once[key], other[key]) for key in changed)


def test_random_weights_are_those_of_before() -> None:
    spec = registry.load("qwen3_4b_instruct_2507")
    held = drawn(spec, "random", dtype=torch.float32)["model.layers.1.self_attn.q_norm.weight"]
    noise = torch.randn(held.shape, generator=builder.generator(0, "model.layers.1.self_attn.q_norm.weight"))
    assert torch.equal(held, torch.ones_like(held).add_(noise, alpha=0.1))


def test_outliers_stand_in_the_embedding_and_no_layer_writes_to_them() -> None:
    spec = registry.load("qwen3_coder_30b")
    held, stream = drawn(spec, "trained_like", dtype=torch.float32), Stream.of(256, 0)
    table = held["model.embed_tokens.weight"]
    assert bool((table[:, stream.common] / COMMON - 1).abs().mean() < 0.2)
    assert table[:, stream.massive].nonzero().flatten().tolist() == [SINK_TOKEN]
    assert table[SINK_TOKEN, stream.massive] == MASSIVE
    for path in spec.anatomy.writes:
        rows = held[f"model.layers.1.{path}"].transpose(-2, -1)
        assert not rows[..., stream.common].any()
        assert not rows[..., stream.massive].any()
        assert rows[..., stream.written].any()


def test_rows_of_the_head_are_nearly_tied() -> None:
    head = drawn(registry.load("glm_4_7"), "trained_like", dtype=torch.float32)["lm_head.weight"]
    apart = (head[1::2] - head[::2]).norm(dim=1) / head[::2].norm(dim=1)
    assert int((apart < 0.01).sum()) == 256
    assert int((apart > 0.5).sum()) == len(apart) - 256


def test_what_an_anatomy_names_must_be_there() -> None:
    spec = registry.load("qwen3_4b_instruct_2507")
    lost = replace(spec, anatomy=replace(spec.anatomy, writes=("mlp.dwn_proj.weight",)))
    with pytest.raises(HarnessError, match=r"no layer of the reference has mlp\.dwn_proj\.weight"):
        drawn(lost, "trained_like")


def test_the_channels_that_rotate_slowest_are_taken() -> None:
    """Eight channels of which six rotate, 0 with 3, 1 with 4 and 2 with 5; the last two do not."""
    channels = Channels.of(torch.tensor([1.0, 0.1, 0.01]), 8)
    assert (channels.sink, channels.slow.tolist()) == (6, [2, 5])


def test_a_prompt_begins_as_the_weights_expect() -> None:
    prompt = ModelInputs(torch.tensor([[5, 6, 7], [4, 9, 9]]), image_token=9)
    assert begun(prompt, "random") is prompt
    assert begun(prompt, "trained_like").tokens.tolist() == [[SINK_TOKEN, 6, 7], [4, 9, 9]]
