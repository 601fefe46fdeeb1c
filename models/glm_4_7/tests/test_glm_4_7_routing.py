"""What GLM-4.7 does otherwise than other models with experts: each difference left out is seen where it happens."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.build import builder
from harness.parity.gate import prove
from harness.records.checks import Divergence
from harness.records.proof_size import ProofSize
from harness.spec.hf_config import HFConfig
from harness.spec.optimization import Target
from models.glm_4_7 import SPEC

CPU = torch.device("cpu")
SOURCE = builder.Source.of(SPEC, "tiny", seed=3, weights=None)
Route = tuple[Tensor, Tensor]


def routed(layer: Any, choose: Callable[[Any, Tensor], Route]) -> None:
    router = layer.mlp.routed.router
    router.forward = lambda x: choose(router, (x.float() @ router.weight.float().t()).sigmoid())


def correction_ignored(router: Any, scores: Tensor) -> Route:
    best, ids = scores.topk(router.chosen)
    return ids, best / best.sum(-1, keepdim=True) * router.scale


def weights_from_corrected_scores(router: Any, scores: Tensor) -> Route:
    best, ids = (scores + router.correction).topk(router.chosen)
    return ids, best / best.sum(-1, keepdim=True) * router.scale


def not_normalized(router: Any, scores: Tensor) -> Route:
    ids = (scores + router.correction).topk(router.chosen).indices
    return ids, scores.gather(1, ids) * router.scale


def not_scaled(router: Any, scores: Tensor) -> Route:
    ids = (scores + router.correction).topk(router.chosen).indices
    best = scores.gather(1, ids)
    return ids, best / best.sum(-1, keepdim=True)


def weights_rounded(layer: Any) -> None:
    experts = layer.mlp.routed.experts
    right = experts.forward
    experts.forward = lambda x, ids, weights: right(x, ids, weights.to(torch.float8_e4m3fn).to(weights.dtype))


def shared_expert_dropped(layer: Any) -> None:
    layer.mlp.forward = lambda x: layer.mlp.routed(x)


def shared_expert_exchanged(layer: Any) -> None:
    gate_up = layer.mlp.shared.gate_up
    right = gate_up.forward
    gate_up.forward = lambda x: right(x)[::-1]


def rotated_whole(layer: Any) -> None:
    layer.attention.rotary.register_forward_pre_hook(
        lambda _, args: (*args[:3], torch.cat((args[3], args[3]), -1), torch.cat((args[4], args[4]), -1), *args[5:])
    )


def key_bias_dropped(layer: Any) -> None:
    layer.attention.qkv.k_proj.register_forward_hook(lambda module, _, out: out - module.bias)


def broken(fault: Callable[[Any], None]) -> Divergence:
    def planted(config: HFConfig, dtype: torch.dtype, device: torch.device) -> nn.Module:
        model = SPEC.build(config, dtype, device)
        fault(model.layers[2])
        return model

    spec = replace(SPEC, build=planted)
    proof = prove(
        builder.BuildConfig(spec, SOURCE, (), Target(CPU, torch.bfloat16, "none")),
        ProofSize(2, 16, 8),
        lambda _, __: None,
        recipe="random",
    )
    assert not proof.parity.passed
    assert proof.parity.first_divergence is not None
    return proof.parity.first_divergence


@pytest.mark.parametrize("choose", [correction_ignored, weights_from_corrected_scores, not_normalized, not_scaled])
def test_a_wrong_router_is_found_at_the_router(choose: Callable[[Any, Tensor], Route]) -> None:
    found = broken(lambda layer: routed(layer, choose))
    assert (found.layer, found.stage) == (2, "router")


@pytest.mark.parametrize(
    ("fault", "stage"),
    [
        (weights_rounded, "experts"),
        (shared_expert_dropped, "experts"),
        (shared_expert_exchanged, "shared_gated"),
        (rotated_whole, "query_rotated"),
        (key_bias_dropped, "key"),
    ],
)
def test_a_wrong_layer_is_found_at_its_stage(fault: Callable[[Any], None], stage: str) -> None:
    found = broken(fault)
    assert (found.layer, found.stage) == (2, stage)
