"""Faults of a gated feed-forward block, eager, packed or streamed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.spec.mutant import Mutant
from models.common.decoder.plant import at, held, inputs, replaced
from models.common.linear.skinny import SkinnyGated


def _exchanged(mlp: Any, model: nn.Module) -> bool:
    """The up projection goes through silu, the gate does not."""
    found = False
    for module in mlp.modules():
        if isinstance(module, SkinnyGated):
            gate, up = module.weight.chunk(2)
            replaced(module, "weight", torch.cat((up, gate)))
            found = True
        elif hasattr(module, "gate_up"):
            forward = module.gate_up.forward
            module.gate_up.forward = lambda x, forward=forward: tuple(reversed(forward(x)))
            found = True
    return found


def _activated(activation: Any) -> Any:
    def change(mlp: Any, model: nn.Module) -> bool:
        if not isinstance(getattr(mlp, "gate", None), nn.Module):
            return False
        mlp.gate.forward = lambda gate, up: activation(gate) * up
        return True

    return change


def _without_last(x: Tensor) -> tuple[Tensor]:
    x = x.clone()
    x[..., -1] = 0
    return (x,)


GATED_MUTANTS: tuple[Mutant, ...] = (
    held("mlp", _exchanged, "gate and up exchanged", "gate"),
    held("mlp", _activated(F.gelu), "gelu in the place of silu", "gate"),
    held("mlp", _activated(torch.sigmoid), "gate without its own factor", "gate"),
    at("mlp.down_proj", inputs(_without_last), "last intermediate channel dropped", "tail"),
    at("mlp.down_proj", inputs(lambda x: (x.roll(1, -1),)), "intermediate channels one place away", "stride"),
)
