"""The Hugging Face model as the judge sees it: layer by layer, stage by stage, and in a wider type."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.build.dtypes import wider
from harness.errors import HarnessError
from harness.parity.reference.routing import RankedRoute, Routes, gate_of, reference_choice
from harness.spec.model import Routing
from harness.spec.model_inputs import Features, ModelInputs
from harness.spec.runtime import hugging_face_lm
from harness.spec.vision import Vision

CAPTURED = "captured_sdpa"
Trace = dict[str, Tensor]


class ReferenceModel:
    """Wraps a Hugging Face model: at `decoder` its `layers`, `embed_tokens`, `norm` and `rotary_emb`, and `lm_head`."""

    def __init__(
        self, model: nn.Module, routing: Routing | None = None, decoder: str = "model", vision: Vision | None = None
    ) -> None:
        self.module, self.routing, self.vision = model, routing, vision
        self.model = hugging_face_lm(model)
        self.core: Any = model.get_submodule(decoder)

    def __len__(self) -> int:
        return len(self.core.layers)

    def logits(
        self, inputs: ModelInputs, replay: Routes | None = None, made: Routes | None = None, keep: int = 0
    ) -> Tensor:
        """[B, T, vocab] in the model's dtype, with the experts of `replay`; its own choice goes to `made`. Of the last
        `keep` tokens where keep > 0."""
        shape = inputs.tokens.shape
        with ExitStack() as stack:
            for index, layer in enumerate(self.core.layers):
                followed = replay.layers.get(index) if replay else None
                choice = _kept(made or Routes(), index)
                stack.enter_context(reference_choice(layer, self.routing, shape, followed, choice))
            out: Tensor = self.model(
                input_ids=inputs.tokens, use_cache=False, logits_to_keep=keep, **inputs.keywords()
            ).logits
        return out

    def wide_logits(
        self,
        inputs: ModelInputs,
        features: Features | None = None,
        streams: list[Tensor] | None = None,
        keep: int = 0,
        replay: Routes | None = None,
    ) -> tuple[Tensor, Routes]:
        """[B, T, vocab] in the wider type, one layer widened at a time so that memory stays small; and the experts that
        it chose. With `features` the images show these, and otherwise what the widened tower sees. What stands in the
        residual stream behind each layer goes to `streams`. Logits of the last `keep` tokens where keep > 0. The
        experts of `replay` are followed, where it has any."""
        upcast, routes = wider(self.model.dtype), Routes()
        if inputs.pixels is not None and features is None:
            features = self.wide_features(inputs)
        hidden = self.core.embed_tokens(inputs.tokens).to(upcast)
        images = inputs.shows()
        if features is not None:
            hidden[images] = features.embeddings.to(upcast)
        for index in range(len(self)):
            run = self.wide_layer(index, inputs)
            followed = replay.layers.get(index) if replay else None
            with reference_choice(run.layer, self.routing, inputs.tokens.shape, followed, _kept(routes, index)):
                hidden = run(hidden)
            if features is not None and index < len(features.deep):
                hidden[images] += features.deep[index].to(upcast)
            if streams is not None:
                streams.append(hidden.clone())
        hidden = copy.deepcopy(self.core.norm).to(upcast)(hidden[:, -keep:])
        rows = [torch.nn.functional.linear(row, self.model.lm_head.weight.to(upcast)) for row in hidden.unbind(0)]
        return torch.stack(rows), routes

    def layer_inputs(self, inputs: ModelInputs, replay: Routes | None = None) -> list[Tensor]:
        """The plain model's own input [B, T, H] to every layer, and to the final norm, with the experts of `replay`."""
        found: list[Tensor] = []
        modules = [*self.core.layers, self.core.norm]
        hooks = [m.register_forward_pre_hook(lambda _, args: found.append(args[0].clone())) for m in modules]
        try:
            self.logits(inputs, replay)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def layer(self, index: int, inputs: ModelInputs) -> LayerRun:
        return LayerRun(self.core.layers[index], self.core.rotary_emb, self.positions(inputs))

    def wide_layer(self, index: int, inputs: ModelInputs) -> LayerRun:
        layer, wide_type = self.core.layers[index], wider(self.model.dtype)
        # A bank of experts fills much of a device: its matrices are widened one at a time, when they are read.
        held = {id(p): _Bank(p, wide_type) for p in layer.parameters() if p.dim() == 3}
        widened = {id(p): nn.Parameter(p.to(wide_type), requires_grad=False) for p in layer.parameters() if p.dim() < 3}
        upcast = copy.deepcopy(layer, {**widened, **held})
        for module in upcast.modules():
            for name in [name for name, p in module._parameters.items() if isinstance(p, _Bank)]:
                bank = module._parameters.pop(name)
                vars(module)[name] = bank
        upcast = upcast.to(wide_type)
        # Grouped matrix products know no float64. A copied layer has a config of its own.
        for module in upcast.modules():
            if hasattr(getattr(module, "config", None), "_experts_implementation"):
                module.config._experts_implementation = "eager"
        return LayerRun(upcast, self.core.rotary_emb, self.positions(inputs))

    def positions(self, inputs: ModelInputs) -> Tensor:
        """What the model gives its rotary embedding: [B, T] of text alone, [axes, B, T] where a model sees."""
        if self.vision is not None:
            return self.vision.positions(self.module, inputs)[0]
        batch, tokens = inputs.tokens.shape
        return torch.arange(tokens, device=inputs.tokens.device).expand(batch, -1)

    def router_input(self, index: int, inputs: ModelInputs, hidden: Tensor) -> tuple[nn.Module, Tensor] | None:
        """The router of layer `index`, and what it is given [N, H] where the layer is given `hidden` [B, T, H]; None of
        a dense layer."""
        run = self.layer(index, inputs)
        gate = gate_of(run.layer, self.routing.reference) if self.routing else None
        if gate is None:
            return None
        given: list[Tensor] = []
        handle = gate.register_forward_pre_hook(lambda _, args: given.append(args[0].flatten(0, -2).clone()))
        try:
            run(hidden)
        finally:
            handle.remove()
        return gate, given[0]

    def turns(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions [B, T], or [axes, B, T] where the model sees -> its rotary table's cos, sin [B, T, rotated]."""
        stream = torch.empty(0, dtype=self.model.dtype, device=positions.device)
        cos, sin = self.core.rotary_emb(stream, positions)
        return cos, sin

    def tower(self) -> nn.Module:
        return self.module.get_submodule(self._vision().tower)

    def wide_tower(self) -> nn.Module:
        return copy.deepcopy(self.tower()).to(wider(self.model.dtype))

    def see(self, tower: nn.Module, inputs: ModelInputs) -> Features:
        """What `tower`, the model's own or its wide copy, makes of the images."""
        return self._vision().features(tower, inputs)

    def features(self, inputs: ModelInputs) -> Features:
        return self.see(self.tower(), inputs)

    def wide_features(self, inputs: ModelInputs) -> Features:
        upcast = inputs.to(inputs.tokens.device, wider(self.model.dtype))
        return self.see(self.wide_tower(), upcast)

    def _vision(self) -> Vision:
        if self.vision is None:
            raise HarnessError("images were given to a model whose spec declares no vision: nothing could judge them")
        return self.vision


@dataclass(frozen=True)
class _Bank:
    """Matrices [E, N, K] of which one at a time is asked for, and given in another type."""

    matrices: Tensor
    dtype: torch.dtype

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.matrices[index].to(self.dtype)


def _kept(routes: Routes, index: int) -> Callable[[RankedRoute], None]:
    return lambda route: routes.layers.__setitem__(index, route)


@dataclass(frozen=True)
class LayerRun:
    """One Hugging Face layer: hidden states [B, T, H] -> the same after it, causal, no cache."""

    layer: nn.Module
    rotary: nn.Module
    positions: Tensor

    def __call__(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.layer(
            hidden,
            attention_mask=None,
            position_ids=self.positions,
            position_embeddings=self.rotary(hidden, self.positions),
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
