"""The free-running trace: both implementations go their own way through the layers, and their errors are compared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from harness.build.inputs import prepared
from harness.parity.reference.reference_model import Plain
from harness.parity.reference.routing import our_choices
from harness.records.checks import UNBOUNDED, Drift
from harness.spec.inputs import ModelInputs

LEAST, MOST = 0.8, 1.25
"""The ratio of our error to the plain model's behind a layer, of a build that is right."""


def free_running(model: Any, plain: Plain, inputs: ModelInputs) -> Drift | None:
    """The first layer behind which our residual stream's error, against the wide reference, is no longer that of the
    plain model; None where it always is. Experts are those that the reference chose."""
    wide: list[Tensor] = []
    _, routes = plain.wide_logits(inputs, streams=wide)
    theirs = plain.layer_inputs(inputs, routes)[1:]
    ours: list[Tensor] = []
    with our_choices(model, plain.routing, routes), _streams(model, ours):
        model(inputs.tokens, prepared(model, inputs, inputs.tokens.shape[1]))
    for index, (o, p, r) in enumerate(zip(ours, theirs, wide, strict=True)):
        noise = _rms(p, r)
        ratio = _rms(o, r) / noise if noise else 1.0
        if not LEAST <= ratio <= MOST:
            return Drift(layer=index, ratio=ratio if math.isfinite(ratio) else UNBOUNDED)
    return None


def _rms(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).square().mean().sqrt())


@contextmanager
def _streams(model: Any, found: list[Tensor]) -> Iterator[None]:
    """While open, what stands in the residual stream behind each layer: the next one, or the last norm, is given it."""

    def hook(_: Any, args: Any) -> None:
        delta, residual = args[:2]
        found.append(residual.clone() if delta is None else residual + delta)

    hooks = [module.register_forward_pre_hook(hook) for module in (*model.layers[1:], model.norm)]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()
