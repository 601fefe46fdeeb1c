"""Faults that flat random weights hide are refused on trained-like ones, and right builds are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.build import builder, registry
from harness.parity.gate import prove
from harness.parity.reference.statistics import statistics
from harness.parity.trained_like_run import RUNS
from harness.records.checks import Check
from harness.records.proof_size import ProofSize
from harness.records.recipe_label import recipe_of
from harness.records.weight_recipe import WeightRecipe
from harness.spec.optimization import Target
from models.common.attention.eager import Attend
from models.common.cache.kv_cache import LayerCache, Slots

SIZE = ProofSize(2, 16, 16)
SPARSE, DENSE = "qwen3_coder_30b", "qwen3_4b_instruct_2507"
SHOWN_BY_RANDOM = {"largest load of an expert", "experts without a token", "first choices within the plain error"}
"""What random weights may show as trained ones do, too."""


def config(model: str, seed: int, dtype: torch.dtype = torch.float16) -> builder.BuildConfig:
    spec = registry.load(model)
    target = Target(torch.device("cpu"), dtype, "none")
    return builder.BuildConfig(spec, builder.Source.of(spec, "tiny", seed, None), (), target)


@torch.no_grad()
def refused(
    built: builder.BuildConfig, recipe: WeightRecipe, plant: Callable[[torch.nn.Module], None] = lambda _: None
) -> dict[str, list[Check]]:
    """What each of the two runs of a recipe refuses of a build with a fault in every layer."""
    kind, found = RUNS[recipe], dict[str, list[Check]]()
    for name, run in (("fp32", kind.fp32(built, SIZE)), ("target", kind(built, SIZE))):
        for layer in run.model.layers:
            plant(layer)
        levels = run.in_fp32() if name == "fp32" else run.in_target()
        found[name] = [check for checks in levels for check in checks if not check.passed]
    return found


def skip_light_experts(layer: torch.nn.Module) -> None:
    def hook(_: torch.nn.Module, given: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        x, ids, weights = given
        return x, ids, weights.where(weights >= 0.02, 0)

    layer.mlp.experts.register_forward_pre_hook(hook)


class FewKeys(Attend):
    """Attention that leaves out keys whose probability is under a thousandth of the best key's."""

    def forward(self, q: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
        keys, values = cache.read(slots)
        q = q.transpose(1, 2)
        scores = q.float() @ keys.repeat_interleave(q.shape[1] // keys.shape[1], 1).float().mT * self.scale
        scores = scores.masked_fill(~slots.visible, -torch.inf)
        kept = scores.exp() >= 1e-3 * scores.amax(-1, keepdim=True).exp()
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=kept, scale=self.scale, enable_gqa=True)
        return out.transpose(1, 2)


def skip_light_keys(layer: torch.nn.Module) -> None:
    layer.attention.attend = FewKeys(layer.attention.attend.scale)


@pytest.mark.parametrize(("model", "plant"), [(SPARSE, skip_light_experts), (DENSE, skip_light_keys)])
def test_what_random_weights_hide_is_refused(model: str, plant: Callable[[torch.nn.Module], None]) -> None:
    built = config(model, seed=0)
    assert refused(built, "random", plant) == {"fp32": [], "target": []}
    found = refused(built, "trained_like", plant)
    for name in ("fp32", "target"):
        assert {"layer 0", "layer 1", "layer 2"} <= {check.subject for check in found[name]}, name


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("model", registry.names())
def test_a_right_build_is_not_refused_and_its_weights_are_like_trained_ones(model: str, seed: int) -> None:
    """Eager builds on one core: a second each."""
    built = config(model, seed)
    assert refused(built, "trained_like") == {"fp32": [], "target": []}
    run = RUNS["trained_like"](built, SIZE)
    found = statistics(run.plain, run.oracle.whole, "trained_like")
    assert [item for item in found if not item.like_trained] == []
    assert ("router entropy" in {item.name for item in found}) == (built.spec.routing is not None)


@pytest.mark.parametrize("model", registry.names())
def test_random_weights_are_not_like_trained_ones(model: str) -> None:
    run = RUNS["random"](config(model, 0), SIZE)
    found = statistics(run.plain, run.oracle.whole, "random")
    assert [item.name for item in found if item.like_trained and item.name not in SHOWN_BY_RANDOM] == []


def test_a_proof_judges_both_and_says_which_check_is_of_which() -> None:
    built = config(DENSE, 0)
    parity = prove(built, SIZE, lambda *_: None).parity
    assert parity.passed
    levels = {recipe: {check.level for check in parity.checks if recipe_of(check) == recipe} for recipe in RUNS}
    assert levels["random"] == levels["trained_like"] == {"reference", "layer", "logits", "generation", "path"}
    assert parity.statistics is not None
    assert {item.weights for item in parity.statistics} == {"random", "trained_like"}
    assert parity.not_judged == ()


def test_a_proof_of_random_weights_alone_says_what_it_left_out() -> None:
    parity = prove(config(DENSE, 0), SIZE, lambda *_: None, recipe="random").parity
    assert {recipe_of(check) for check in parity.checks} == {"random"}
    assert [item.subject for item in parity.not_judged] == ["trained-like weights"]


def test_where_trained_like_weights_show_a_fault_is_named() -> None:
    built = config(SPARSE, 0)

    def wrong(*arguments: object) -> torch.nn.Module:
        model = built.spec.build(*arguments)
        for layer in model.layers:
            skip_light_experts(layer)
        return model

    parity = prove(replace(built, spec=replace(built.spec, build=wrong)), SIZE, lambda *_: None).parity
    assert {recipe_of(check) for check in parity.failures()} == {"trained_like"}
    assert parity.refusal().startswith("layer 0, experts (trained-like: experts)")
