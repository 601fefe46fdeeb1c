"""Faults of the shared expert and of a router whose correction chooses and does not weigh."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.spec.mutant import Mutant
from models.common.decoder.plant import at, held, inputs, output


def _uncorrected(router: Any, model: nn.Module) -> bool:
    """The best plain scores choose."""
    eager = getattr(router, "eager", router)
    eager.correction = torch.zeros_like(eager.correction)
    return True


def _weighed(forward: Any, router: Any, model: nn.Module) -> Any:
    """The correction weighs too."""
    eager = getattr(router, "eager", router)

    def faulty(x: Tensor) -> tuple[Tensor, Tensor]:
        ids, _ = forward(x)
        scores = F.linear(x.float(), eager.weight.float()).sigmoid() + eager.correction
        taken = scores.gather(1, ids)
        return ids, taken / taken.sum(-1, keepdim=True) * eager.scale

    return faulty


def _rounded(forward: Any, router: Any, model: nn.Module) -> Any:
    """Scores are rounded to the model's type before the sigmoid; the choice is as it was."""
    eager = getattr(router, "eager", router)

    def faulty(x: Tensor) -> tuple[Tensor, Tensor]:
        ids, _ = forward(x)
        taken = F.linear(x, eager.weight).float().sigmoid().gather(1, ids)
        return ids, taken / taken.sum(-1, keepdim=True) * eager.scale

    return faulty


SHARED_EXPERT_MUTANTS: tuple[Mutant, ...] = (
    at("mlp.shared", output(torch.zeros_like), "shared expert not added", "expert"),
    at("mlp.shared", output(lambda y: 2 * y), "shared expert added twice", "expert"),
    at("mlp.shared", inputs(lambda x: (x.roll(1, 1),)), "shared expert reads another token", "expert"),
    held("mlp.routed.router", _uncorrected, "experts chosen without the correction", "expert"),
    at("mlp.routed.router", _weighed, "experts weighed with the correction", "expert"),
    at("mlp.routed.router", _rounded, "router's scores in the model's type", "downgrade"),
)
