"""What the tests of every model ask of its weight-only builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from harness.build import builder
from harness.build.quantized_reference import rounded
from harness.parity.gate import prove
from harness.records.checks import Parity
from harness.records.proof_size import ProofSize
from harness.records.weight_recipe import WeightRecipe
from harness.spec.model import ModelSpec
from harness.spec.optimization import Menu, Receipt, Target
from models.common.quantization.quantized_linear import QuantizedLinear

CPU = torch.device("cpu")
TARGET = Target(CPU, torch.bfloat16, "none")
EXTENT = ProofSize(2, 24, 20)
NAMES = ("linear_int8", "linear_fp8", "linear_int4")


def tiny(spec: ModelSpec) -> builder.Source:
    return builder.Source.of(spec, "tiny", seed=3, weights=None)


def judged(
    spec: ModelSpec, name: str, source: builder.Source | None = None, recipe: WeightRecipe = "trained_like"
) -> Parity:
    """The whole gate on the build that `name` makes."""
    config = builder.BuildConfig(spec, source or tiny(spec), (name,), TARGET)
    return prove(config, EXTENT, lambda _, __: None, recipe=recipe).parity


def refused(parity: Parity) -> list[str]:
    return [f"{c.subject} {c.name} {c.rule}: {c.error:.3g} > {c.limit:.3g}" for c in parity.failures()]


def planted(spec: ModelSpec, name: str, fault: Callable[[nn.Module], None]) -> ModelSpec:
    """The model with a fault in what `name` builds."""
    right = spec.menu[name]

    def apply(model: nn.Module, target: Target) -> Receipt:
        receipt = right.apply(model, target)
        fault(model)
        return receipt

    items = tuple(replace(right, apply=apply) if item is right else item for item in spec.menu.items)
    return replace(spec, menu=Menu(items, spec.menu.full))


def place_of(parity: Parity) -> tuple[int | None, str]:
    """(layer, op) of the first divergence."""
    assert parity.first_divergence is not None
    return parity.first_divergence.layer, parity.first_divergence.op


def pair(spec: ModelSpec, name: str) -> tuple[nn.Module, nn.Module]:
    """The reference and the build that `name` makes."""
    hf = builder.reference(spec, tiny(spec), TARGET.dtype, CPU)
    return hf, builder.candidate(builder.BuildConfig(spec, tiny(spec), (name,), TARGET), hf)[0]


def rounded_matrices(spec: ModelSpec, hf: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The reference's parameters that its rounded copy does not share, by their names."""
    made = dict(rounded(spec, hf, (name,)).named_parameters(remove_duplicate=False))
    return {key: value for key, value in hf.named_parameters(remove_duplicate=False) if made[key] is not value}


def bytes_of_codes(model: nn.Module) -> int:
    """Codes, scales and zero points of all rounded layers."""
    return sum(b.nbytes for m in model.modules() if isinstance(m, QuantizedLinear) for b in m.buffers())
