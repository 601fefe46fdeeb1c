"""A wrong choice of experts is refused where it happens; replaying the reference's choice hides nothing after it."""

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
from models.qwen3_coder_30b import SPEC

CPU = torch.device("cpu")
SOURCE = builder.Source.of(SPEC, "tiny", seed=3, weights=None)


def next_best(layer: Any) -> None:
    """The weakest of the chosen experts becomes the one after it."""
    router = layer.mlp.router

    def wrong(x: Tensor) -> tuple[Tensor, Tensor]:
        scores = (x @ router.weight.t()).float().softmax(-1)
        best, ids = scores.topk(router.chosen + 1, dim=-1)
        best, ids = best[:, [*range(router.chosen - 1), -1]], ids[:, [*range(router.chosen - 1), -1]]
        return ids, (best / best.sum(-1, keepdim=True)).to(x.dtype)

    router.forward = wrong


def not_normalized(layer: Any) -> None:
    router = layer.mlp.router

    def wrong(x: Tensor) -> tuple[Tensor, Tensor]:
        best, ids = (x @ router.weight.t()).float().softmax(-1).topk(router.chosen, dim=-1)
        return ids, best.to(x.dtype)

    router.forward = wrong


def dropped_expert(layer: Any) -> None:
    experts = layer.mlp.experts
    right = experts.forward
    experts.forward = lambda x, ids, weights: right(x, ids[:, :-1], weights[:, :-1])


def unweighted(layer: Any) -> None:
    experts = layer.mlp.experts
    right = experts.forward
    experts.forward = lambda x, ids, weights: right(x, ids, torch.full_like(weights, 1 / weights.shape[1]))


def broken(fault: Callable[[Any], None]) -> Divergence:
    def planted(config: HFConfig, dtype: torch.dtype, device: torch.device) -> nn.Module:
        model = SPEC.build(config, dtype, device)
        fault(model.layers[1])
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


@pytest.mark.parametrize(
    ("fault", "stage"),
    [(next_best, "router"), (not_normalized, "router"), (dropped_expert, "experts"), (unweighted, "experts")],
)
def test_a_fault_in_layer_1_is_found_there(fault: Callable[[Any], None], stage: str) -> None:
    found = broken(fault)
    assert (found.layer, found.stage) == (1, stage)
