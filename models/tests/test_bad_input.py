"""What a model cannot take is refused, by name, before any part of it runs and before anything is written."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.build import builder, registry
from harness.errors import CacheFull, ConfigError, HarnessError, InputError
from harness.spec.model import ModelSpec
from harness.spec.optimization import Target

CPU = torch.device("cpu")
TARGET = Target(CPU, torch.float32, "none")
CAPACITY = 4
LAYOUTS = [(), ("kv_cache",), ("kv_cache_paged",)]
MODELS = pytest.mark.parametrize("name", registry.names())


def built(spec: ModelSpec, stack: tuple[str, ...] = ()) -> Any:
    """A tiny build whose weights nobody reads."""
    model = spec.build(spec.sizes["tiny"], TARGET.dtype, CPU)
    builder.optimize(spec, model, stack, TARGET)
    return model


def refused(model: Any, cache: Any, tokens: list[int], error: type[HarnessError], words: str) -> None:
    """The model refuses a row of tokens, and nothing but the refusal happens."""
    ran: list[torch.nn.Module] = []
    before = cache.length
    hooks = [part.register_forward_pre_hook(lambda part, _: ran.append(part)) for part in model.children()]
    with pytest.raises(error, match=words):
        model(torch.tensor([tokens]), cache)
    for hook in hooks:
        hook.remove()
    assert (ran, cache.length, cache.seq_lens.tolist()) == ([], before, [before])


@MODELS
@pytest.mark.parametrize("stack", LAYOUTS, ids="+".join)
@pytest.mark.parametrize("held", [0, 3])
def test_tokens_that_do_not_fit_into_the_cache(name: str, stack: tuple[str, ...], held: int) -> None:
    """Pages are whole, so that a cache may hold more than was asked for."""
    model = built(registry.load(name), stack)
    cache = model.new_cache(1, CAPACITY)
    cache.extend(held)
    room = cache.capacity - held
    words = f"{held} \\+ {room + 1} tokens do not fit into a cache of {cache.capacity}"
    refused(model, cache, [7] * (room + 1), CacheFull, words)


@MODELS
@pytest.mark.parametrize("stack", LAYOUTS, ids="+".join)
def test_a_decode_step_past_the_end_of_the_cache(name: str, stack: tuple[str, ...]) -> None:
    model = built(registry.load(name), stack)
    cache = model.new_cache(1, CAPACITY)
    cache.extend(cache.capacity)
    refused(model, cache, [7], CacheFull, f"{cache.capacity} \\+ 1 tokens do not fit")


@MODELS
@pytest.mark.parametrize("token", [2048, -1])
def test_a_token_past_the_vocabulary(name: str, token: int) -> None:
    model = built(registry.load(name))
    assert model.vocab == 2048
    refused(
        model,
        model.new_cache(1, CAPACITY),
        [7, token, 7],
        InputError,
        f"token {token} is not in the vocabulary of 2048",
    )


@MODELS
def test_a_cache_past_the_positions_that_the_model_knows(name: str) -> None:
    model = built(registry.load(name))
    with pytest.raises(ConfigError, match=f"the model knows positions up to {model.max_positions}"):
        model.new_cache(1, model.max_positions + 1)


SEEING = [name for name in registry.names() if registry.load(name).vision is not None]


@pytest.mark.parametrize("name", SEEING)
def test_image_tokens_without_images(name: str) -> None:
    spec = registry.load(name)
    token = int(spec.sizes["tiny"]["image_token_id"])
    model = built(spec)
    refused(model, model.new_cache(1, CAPACITY), [7, token, 7], InputError, "no images were given")
