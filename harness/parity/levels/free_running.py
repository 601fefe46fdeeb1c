"""The free-running trace: both implementations go their own way through the layers, and their errors are compared."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from harness.parity.levels.layer import run_layer
from harness.parity.reference.reference_model import ReferenceModel
from harness.parity.reference.routing import our_choices
from harness.records.checks import UNBOUNDED, Drift
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import CausalLM, vision_lm

LEAST, MOST = 0.8, 1.25
"""The ratio of our error to the plain model's behind a layer, of a build that is right."""


def free_running(model: CausalLM, plain: ReferenceModel, inputs: ModelInputs) -> Drift | None:
    """The first layer behind which our residual stream's error, against the wide reference, is no longer that of the
    plain model; None where it always is. Experts are those that the reference chose."""
    upcast: list[Tensor] = []
    _, routes = plain.wide_logits(inputs, streams=upcast)
    given, *theirs = plain.layer_inputs(inputs, routes)
    with our_choices(model, plain.routing, routes):
        ours = list(_streams(model, inputs, given))
    for index, (o, p, r) in enumerate(zip(ours, theirs, upcast, strict=True)):
        noise = _rms(p, r)
        ratio = _rms(o, r) / noise if noise else 1.0
        if not LEAST <= ratio <= MOST:
            return Drift(layer=index, ratio=ratio if math.isfinite(ratio) else UNBOUNDED)
    return None


def _rms(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).square().mean().sqrt())


def _streams(model: CausalLM, inputs: ModelInputs, hidden: Tensor) -> Iterator[Tensor]:
    """What stands in the residual stream [B, T, H] behind each layer when every one is given what ours before it made.
    `hidden` [B, T, H] is what the first is given, but for what our own tower makes of the images."""
    features = None if inputs.pixels is None else vision_lm(model).see(inputs)
    images = inputs.shows()
    if features is not None:
        hidden[images] = features.embeddings.to(hidden.dtype)
    for index in range(len(model.layers)):
        hidden = run_layer(model, index, inputs, hidden)
        if features is not None and index < len(features.deep):
            hidden[images] += features.deep[index]
        yield hidden
