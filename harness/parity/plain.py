"""The Hugging Face model as the judge sees it: layer by layer, stage by stage, and in a wider type."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.parity.routing import RankedRoute, Routes, reference_choice
from harness.spec import Routing

CAPTURED = "captured_sdpa"
Trace = dict[str, Tensor]


def wider(dtype: torch.dtype) -> torch.dtype:
    """The type that references are computed in: float64 for float32, float32 for the half types."""
    return torch.float64 if dtype == torch.float32 else torch.float32


class Plain:
    """Wraps a Hugging Face decoder: `model.model.layers`, `embed_tokens`, `norm`, `rotary_emb` and `lm_head`."""

    def __init__(self, model: Any, routing: Routing | None = None) -> None:
        self.model, self.routing = model, routing
        self.core = model.model

    def __len__(self) -> int:
        return len(self.core.layers)

    def logits(self, tokens: Tensor, replay: Routes | None = None, made: Routes | None = None) -> Tensor:
        """[B, T, vocab] in the model's dtype, with the experts of `replay`; its own choice goes to `made`."""
        with ExitStack() as stack:
            for index, layer in enumerate(self.core.layers):
                followed = replay.layers.get(index) if replay else None
                keep = _kept(made or Routes(), index)
                stack.enter_context(reference_choice(layer, self.routing, tokens.shape, followed, keep))
            out: Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return out

    def wide_logits(self, tokens: Tensor) -> tuple[Tensor, Routes]:
        """[B, T, vocab] in the wider type, one layer widened at a time so that memory stays small; and the experts that
        it chose."""
        wide, routes = wider(self.model.dtype), Routes()
        hidden = self.core.embed_tokens(tokens).to(wide)
        for index in range(len(self)):
            run = self.wide_layer(index)
            with reference_choice(run.layer, self.routing, tokens.shape, None, _kept(routes, index)):
                hidden = run(hidden)
        hidden = copy.deepcopy(self.core.norm).to(wide)(hidden)
        rows = [torch.nn.functional.linear(row, self.model.lm_head.weight.to(wide)) for row in hidden.unbind(0)]
        return torch.stack(rows), routes

    def layer_inputs(self, tokens: Tensor) -> list[Tensor]:
        """The plain model's own input [B, T, H] to every layer, and to the final norm."""
        inputs: list[Tensor] = []
        modules = [*self.core.layers, self.core.norm]
        hooks = [m.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone())) for m in modules]
        try:
            self.logits(tokens)
        finally:
            for hook in hooks:
                hook.remove()
        return inputs

    def layer(self, index: int) -> LayerRun:
        return LayerRun(self.core.layers[index], self.core.rotary_emb)

    def wide_layer(self, index: int) -> LayerRun:
        layer, wide_type = self.core.layers[index], wider(self.model.dtype)
        # Widened parameters stand in for the copies that deepcopy would make: experts fill much of a device.
        widened = {id(p): nn.Parameter(p.to(wide_type), requires_grad=False) for p in layer.parameters()}
        wide = copy.deepcopy(layer, widened).to(wide_type)
        # Grouped matrix products know no float64. A copied layer has a config of its own.
        for module in wide.modules():
            if hasattr(getattr(module, "config", None), "_experts_implementation"):
                module.config._experts_implementation = "eager"
        return LayerRun(wide, self.core.rotary_emb)


def _kept(routes: Routes, index: int) -> Callable[[RankedRoute], None]:
    return lambda route: routes.layers.__setitem__(index, route)


@dataclass(frozen=True)
class LayerRun:
    """One Hugging Face layer: hidden states [B, T, H] -> the same after it, causal, positions from 0, no cache."""

    layer: nn.Module
    rotary: nn.Module

    def __call__(self, hidden: Tensor) -> Tensor:
        positions = torch.arange(hidden.shape[1], device=hidden.device).expand(hidden.shape[0], -1)
        out: Tensor = self.layer(
            hidden,
            attention_mask=None,
            position_ids=positions,
            position_embeddings=self.rotary(hidden, positions),
        )
        return out


@contextmanager
def captured_attention(layer: Any, trace: Trace) -> Iterator[None]:
    """While open, what the attention of a Hugging Face layer is given lands in `trace` as @query, @keys, @values, each
    [B, T, heads * head_dim]."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
        for name, tensor in (("@query", query), ("@keys", key), ("@values", value)):
            trace[name] = tensor.transpose(1, 2).flatten(2)
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    AttentionInterface.register(CAPTURED, attention)
    # A widened copy of a layer has a config of its own.
    config = layer.self_attn.config
    before = config._attn_implementation
    config._attn_implementation = CAPTURED
    try:
        yield
    finally:
        config._attn_implementation = before
