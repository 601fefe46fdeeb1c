"""Faults of the residual stream, its norms, the blocks that feed it, the embedding and the head."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from harness.spec.mutant import Mutant
from models.common.decoder.plant import Around, at, held, method, on, output, replaced
from models.common.decoder.plant import inputs as given

NORMS = ("input_norm", "post_norm")


def _epsilon(factor: float) -> Any:
    def change(module: Any, model: nn.Module) -> bool:
        module.eps = module.eps * factor
        return True

    return change


def _epsilon_outside(forward: Any, module: Any, model: nn.Module) -> Any:
    """Epsilon added to the root instead of under it: the same as another epsilon under it, for rows of one size."""
    eps = module.eps

    def faulty(delta: Tensor | None, residual: Tensor) -> Any:
        root = (residual if delta is None else residual + delta).float().square().mean().sqrt()
        module.eps = float(2 * eps * root + eps**2)
        return forward(delta, residual)

    return faulty


def _weight(make: Any) -> Any:
    def change(module: nn.Module, model: nn.Module) -> bool:
        replaced(module, "weight", make(module.weight))
        return True

    return change


def _norms_exchanged(layer: Any, model: nn.Module) -> bool:
    layer.input_norm, layer.post_norm = layer.post_norm, layer.input_norm
    return True


def _of_the_layer_before(path: str) -> Mutant:
    """The last layer uses the module of the one before it."""

    def plant(model: Any) -> tuple[str, ...]:
        if len(model.layers) < 2:
            return ()
        parent, _, leaf = path.rpartition(".")
        other = model.layers[-2].get_submodule(path)
        shared = {id(tensor): tensor for tensor in chain(other.parameters(), other.buffers())}
        setattr(model.layers[-1].get_submodule(parent), leaf, copy.deepcopy(other, shared))
        return (f"layers.{len(model.layers) - 1}.{path}",)

    return Mutant(f"last layer: {path} of the layer before", "weights", plant)


def _layers_exchanged(model: Any) -> tuple[str, ...]:
    order = list(model.layers)
    if len(order) < 2:
        return ()
    order[-1], order[-2] = order[-2], order[-1]
    model.layers = nn.ModuleList(order)
    return ("layers",)


def _final_norm_of_a_layer(model: Any) -> tuple[str, ...]:
    replaced(model.norm, "weight", model.layers[-1].post_norm.weight)
    return ("norm.weight",)


def _unnormed(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    def faulty(delta: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
        total = residual if delta is None else residual + delta
        return total, total

    return faulty


def _stream_from_the_norm(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    def faulty(delta: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
        x, _ = forward(delta, residual)
        return x, x

    return faulty


def _delta(change: Any) -> Around:
    return given(lambda delta, residual: (None if delta is None else change(delta), residual))


def _rounded(x: Any) -> Any:
    return x.bfloat16().to(x.dtype) if isinstance(x, Tensor) else tuple(_rounded(item) for item in x)


def _last_stale(x: Tensor) -> Tensor:
    """The last token's row is the one before it."""
    if x.shape[1] < 2:
        return x
    return torch.cat((x[:, :-1], x[:, -2:-1]), dim=1)


def _tail_zero(logits: Tensor) -> Tensor:
    return torch.cat((logits[..., :-1], torch.zeros_like(logits[..., -1:])), dim=-1)


def _first_kept(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    """The first tokens' logits where the last ones' were asked for."""

    def faulty(tokens: Tensor, slots: Any, caches: Any, keep: int, *rest: Any) -> Tensor:
        everything: Tensor = forward(tokens, slots, caches, 0, *rest)
        return everything[:, :keep] if keep else everything

    return faulty


def _one_row_for_all(x: Tensor) -> Tensor:
    return x[:1].expand_as(x).clone()


NORM_MUTANTS = (
    held("input_norm", _epsilon(0.0), "input norm: epsilon dropped", "epsilon"),
    at("input_norm", _epsilon_outside, "input norm: epsilon outside the root", "epsilon"),
    held("input_norm", _epsilon(10.0), "input norm: epsilon ten times too large", "epsilon"),
    *(held(path, _weight(torch.ones_like), f"{path}: weight dropped", "weight") for path in NORMS),
    *(held(path, _weight(lambda w: w + 1), f"{path}: weight added to one", "weight") for path in NORMS),
    held("", _norms_exchanged, "input and post norm exchanged", "norm"),
    at("input_norm", _unnormed, "last layer: input norm skipped", "norm", last=True),
    at("post_norm", _unnormed, "last layer: post norm skipped", "norm", last=True),
    on("norm", _unnormed, "final norm skipped", "norm"),
    Mutant("final norm with a layer's weight", "norm", _final_norm_of_a_layer),
)
STREAM_MUTANTS = (
    at("input_norm", _stream_from_the_norm, "residual taken after the norm", "residual"),
    at("post_norm", _delta(torch.zeros_like), "last layer: attention not added", "residual", last=True),
    at("post_norm", _delta(lambda d: 2 * d), "last layer: attention added twice", "residual", last=True),
    on("norm", _delta(torch.zeros_like), "last feed-forward not added", "residual"),
    at("input_norm", output(_rounded), "stream rounded to bfloat16", "downgrade"),
    Mutant("last two layers exchanged", "weights", _layers_exchanged),
    _of_the_layer_before("attention.o_proj"),
    _of_the_layer_before("mlp"),
)
FEED_FORWARD_MUTANTS = (
    at("mlp", output(lambda y: y * 1.01), "feed-forward one percent too large", "scale"),
    at("mlp", output(lambda y: y * 1.01), "last layer: feed-forward one percent too large", "scale", last=True),
    at("mlp", output(torch.zeros_like), "last layer: feed-forward skipped", "answer", last=True),
    at("mlp", output(_last_stale), "feed-forward: last row stale", "stale"),
    at("mlp", output(_rounded), "feed-forward rounded to bfloat16", "downgrade"),
    at("mlp", output(_one_row_for_all), "feed-forward: every sequence gets the first one's", "batch"),
)
HEAD_MUTANTS = (
    on("lm_head", output(lambda y: y.roll(1, -1)), "head of another row", "head"),
    on("lm_head", output(_tail_zero), "head without its last row", "tail"),
    on("lm_head", output(lambda y: 30 * torch.tanh(y / 30)), "logits capped", "head"),
    on("lm_head", output(lambda y: y * 1.01), "logits one percent too large", "scale"),
    on("lm_head", output(_rounded), "logits rounded to bfloat16", "downgrade"),
    on("embed", output(lambda y: y * y.shape[-1] ** 0.5), "embedding scaled by the root of its width", "scale"),
    on("embed", output(_last_stale), "embedding: last token stale", "stale"),
    method("compute", _first_kept, "logits of the first token for those of the last", "head"),
)

RESIDUAL_MUTANTS: tuple[Mutant, ...] = (*NORM_MUTANTS, *STREAM_MUTANTS, *FEED_FORWARD_MUTANTS, *HEAD_MUTANTS)
