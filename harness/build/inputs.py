"""The same inputs from the same seed, every time and on every device, and a cache that has been told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.errors import WeightsError
from harness.spec.hf_config import HFConfig
from harness.spec.model import ModelSpec
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import CausalLM, KVCache, OpenedPrefix, PrefixCache, vision_lm

if TYPE_CHECKING:
    from harness.build.images import Pictures
    from harness.build.tokenizer import Text


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each purpose, so that adding one draw moves no other."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def draw(
    spec: ModelSpec,
    config: HFConfig,
    tokens: int,
    images: Sequence[int],
    seed: int,
    purpose: str,
    text: Text | None = None,
    pictures: Pictures | None = None,
) -> ModelInputs:
    """A batch on the CPU with one row per entry of `images`, which says how many images the row shows; a model of text
    alone shows none. What is no image is prose in the tokens of `text`, or any ordinary tokens where there is none.
    Images are patches that `pictures` makes of pictures, or any patches. WeightsError where those are of another size
    than the model's."""
    drawn = generator(seed, purpose)
    if spec.vision is None:
        batch = ModelInputs(_ordinary(config, len(images), tokens, drawn))
    else:
        batch = spec.vision.inputs(config, tokens, images, drawn)
    if pictures is not None and batch.pixels is not None:
        pixels = pictures.patches([grid for row in batch.grids for grid in row], drawn)
        if pixels.shape != batch.pixels.shape:
            raise WeightsError(
                f"the image processor makes patches {[*pixels.shape]}, the model takes {[*batch.pixels.shape]}: "
                "it is another model's"
            )
        batch = replace(batch, pixels=pixels)
    if text is None:
        return batch
    special = torch.isin(batch.tokens, torch.tensor(sorted(_special(config)), dtype=torch.int64))
    return batch.continued(batch.tokens.where(special, text.rows(len(images), tokens, drawn)))


def _ordinary(config: HFConfig, batch: int, tokens: int, drawn: torch.Generator) -> Tensor:
    """Token ids [batch, tokens] int64 from the vocabulary without its special ids at the top end."""
    return torch.randint(min({int(config["vocab_size"]), *_special(config)}), (batch, tokens), generator=drawn)


def _special(config: HFConfig) -> set[int]:
    """The tokens that a config, or the part of it about text, names."""
    named = {**(config.get("text_config") or {}), **config}
    found = [value for name, value in named.items() if name.endswith("_token_id") and value is not None]
    return {int(i) for entry in found for i in (entry if isinstance(entry, list) else [entry])}


def prepared(model: CausalLM, inputs: ModelInputs, capacity: int, left_padding: Sequence[int] | None = None) -> KVCache:
    """An empty cache of our model, told of the prompt `inputs`."""
    cache = model.new_cache(inputs.tokens.shape[0], capacity, left_padding)
    prepare(model, cache, inputs)
    return cache


def prepare(model: CausalLM, cache: KVCache, inputs: ModelInputs) -> None:
    """Tell a cache what stands where in the prompt and what its images show; text needs no telling."""
    if inputs.pixels is not None:
        seeing = vision_lm(model)
        seeing.place(cache, inputs, seeing.see(inputs))


def reopened(
    model: CausalLM,
    prefixes: PrefixCache,
    inputs: ModelInputs,
    capacity: int,
    left_padding: Sequence[int] | None = None,
) -> OpenedPrefix:
    """A cache on the pool of `prefixes` that is told of the prompt."""
    shown = None if inputs.pixels is None else inputs
    opened = prefixes.open(inputs.tokens, capacity, left_padding, inputs=shown)
    prepare(model, opened.cache, inputs)
    return opened
