"""The weight recipes by name, and the prompts that go with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from harness.build.recipes.residual_stream import SINK_TOKEN
from harness.build.recipes.trained_like import trained_like
from harness.records.weight_recipe import WeightRecipe
from harness.spec.model import ModelSpec
from harness.spec.model_inputs import ModelInputs

_CHANGES: Mapping[WeightRecipe, Callable[[nn.Module, ModelSpec, int], None]] = {"trained_like": trained_like}


def apply_recipe(model: nn.Module, spec: ModelSpec, recipe: WeightRecipe, seed: int) -> None:
    """Change drawn weights in place, the same for the same seed; `random` ones stay as they are."""
    if recipe in _CHANGES:
        _CHANGES[recipe](model, spec, seed)


def begun(prompt: ModelInputs, recipe: WeightRecipe) -> ModelInputs:
    """A prompt as the recipe's weights expect it: trained-like ones know the first token of a text, unless an image
    begins there."""
    if recipe != "trained_like":
        return prompt
    tokens = prompt.tokens.clone()
    tokens[~prompt.shows()[:, 1], 0] = SINK_TOKEN
    return prompt.continued(tokens)
