"""Faults of attention: projections, QK-norm, rotation, mask, groups, scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.spec.mutant import Mutant
from models.common.cache.kv_cache import LayerCache, Slots
from models.common.decoder.plant import at, held, inputs, on, output, replaced

RELATIVE = "attention depends on the angle between a query and a key, and both are turned alike"


def _identity(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(cos), torch.zeros_like(sin)


def _query_alone(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    """The second call writes the same keys again, not rotated."""

    def faulty(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, cache: Any, slots: Any) -> Tensor:
        rotated: Tensor = forward(q, k, v, cos, sin, cache, slots).clone()
        forward(q, k, v, *_identity(cos, sin), cache, slots)
        return rotated

    return faulty


def _key_alone(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    def faulty(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, cache: Any, slots: Any) -> Tensor:
        plain: Tensor = forward(q, k, v, *_identity(cos, sin), cache, slots).clone()
        forward(q, k, v, cos, sin, cache, slots)
        return plain

    return faulty


def _undivided(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    """The query norm's division is undone: rotation and weight are linear in it."""

    def faulty(q: Tensor, *rest: Any) -> Tensor:
        size = q.float().square().mean(-1, keepdim=True).sqrt()
        return (forward(q, *rest) * size).to(q.dtype)

    return faulty


def _norm_weight(norm: str) -> Any:
    def change(module: nn.Module, model: nn.Module) -> bool:
        if not hasattr(module, norm):
            return False
        layer = getattr(module, norm)
        replaced(layer, "weight", torch.ones_like(layer.weight))
        return True

    return change


def _norms_exchanged(module: Any, model: nn.Module) -> bool:
    if not hasattr(module, "q_norm"):
        return False
    module.q_norm, module.k_norm = module.k_norm, module.q_norm
    return True


def _angles(change: Any) -> Any:
    """Rotation by other cos and sin, wherever they come from."""
    return inputs(lambda q, k, v, cos, sin, *rest: (q, k, v, *change(cos, sin), *rest))


def _half(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    still = torch.arange(cos.shape[-1], device=cos.device) % (cos.shape[-1] // 2) >= cos.shape[-1] // 4
    return torch.where(still, 1, cos), torch.where(still, 0, sin)


def _interleaved(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    size = cos.shape[-1] // 2
    return cos[..., :size].repeat_interleave(2, -1), sin[..., :size].repeat_interleave(2, -1)


def _position(change: Any) -> Any:
    return inputs(lambda positions, *rest: (change(positions), *rest))


def _decoding_ahead(positions: Tensor) -> Tensor:
    return positions + 1 if positions.shape[-1] == 1 else positions


def _frequencies(change: Any) -> Mutant:
    name, make = change

    def plant(model: Any) -> tuple[str, ...]:
        if not hasattr(model.rotary, "inv_freq"):
            return ()
        model.rotary.inv_freq = make(model.rotary.inv_freq)
        return ("rotary.inv_freq",)

    return Mutant(name, "rotary", plant)


def _scaled(factor: float) -> Any:
    def change(module: Any, model: nn.Module) -> bool:
        module.scale = module.scale * factor
        return True

    return change


def _turned(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    """Every query head meets the keys of the next one."""
    return lambda q, cache, slots: forward(q.roll(1, 2), cache, slots).roll(-1, 2)


def _dealt(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    """Query heads are dealt to the key-value heads in turn, not in blocks."""

    def faulty(q: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
        kv_heads = cache.keys.shape[1]
        dealt = q.unflatten(2, (-1, kv_heads)).transpose(2, 3).flatten(2, 3)
        out: Tensor = forward(dealt, cache, slots)
        return out.unflatten(2, (kv_heads, -1)).transpose(2, 3).flatten(2, 3)

    return faulty


def _shifted(by: int) -> Any:
    """Each query of a prompt stands `by` places after its own: it sees so many keys more."""

    def around(forward: Any, module: nn.Module, model: nn.Module) -> Any:
        def faulty(q: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
            if slots.tokens == 1:
                return forward(q, cache, slots)
            return forward(q.roll(by, 1), cache, slots).roll(-by, 1)

        return faulty

    return around


def _masked(change: Any) -> Any:
    """Attention under another mask than the cache says: `change(slots)` gives the fields that differ."""

    def around(forward: Any, module: nn.Module, model: nn.Module) -> Any:
        def faulty(q: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
            return forward(q, cache, replace(slots, kept={}, **change(slots)))

        return faulty

    return around


def _first_unseen(slots: Slots) -> dict[str, Any]:
    return {"left_padding": torch.minimum(slots.left_padding + 1, slots.seq_lens - 1), "masked": True}


def _one_too_few(slots: Slots) -> dict[str, Any]:
    if slots.tokens > 1:
        return {}
    return {"seq_lens": (slots.seq_lens - 1).clamp_min(1), "masked": True}


def _window(slots: Slots) -> dict[str, Any]:
    return {"left_padding": torch.maximum(slots.left_padding, slots.seq_lens - 8), "masked": True}


def _values_turned(qkv: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return qkv[0], qkv[1].contiguous(), qkv[2].flip(2).contiguous()


QK_NORM_MUTANTS = (
    at("attention.rotary", _undivided, "query norm missing", "norm"),
    held("attention.rotary", _norm_weight("q_norm"), "query norm: weight dropped", "weight"),
    held("attention.rotary", _norm_weight("k_norm"), "key norm: weight dropped", "weight"),
    held("attention.rotary", _norms_exchanged, "query and key norm exchanged", "norm"),
)
ROTARY_MUTANTS = (
    at("attention.rotary", _query_alone, "rotary on the query alone", "rotary"),
    at("attention.rotary", _key_alone, "rotary on the key alone", "rotary"),
    at("attention.rotary", _query_alone, "last layer: rotary on the query alone", "rotary", last=True),
    at("attention.rotary", _angles(lambda cos, sin: (cos, -sin)), "rotated the other way", "rotary"),
    at("attention.rotary", _angles(lambda cos, sin: (sin, cos)), "cos and sin exchanged", "rotary"),
    at("attention.rotary", _angles(lambda cos, sin: (-cos, -sin)), "turned half a turn further", "rotary", RELATIVE),
    at("attention.rotary", _angles(_half), "half of the channels rotated", "rotary"),
    at("attention.rotary", _angles(_interleaved), "interleaved pairs rotated", "rotary"),
    on("rotary", _position(lambda p: p + 1), "every position one too large", "position"),
    on("rotary", _position(_decoding_ahead), "position one too large while decoding", "position"),
    on("rotary", _position(lambda p: p // 2), "positions of pairs", "position"),
    _frequencies(("rotary base ten times too large", lambda f: f ** (1 + 0.15))),
    _frequencies(("frequencies one percent too large", lambda f: f * 1.01)),
    _frequencies(("frequencies rounded to bfloat16", lambda f: f.bfloat16().float())),
    _frequencies(("slowest frequency stands still", lambda f: torch.cat((f[:-1], 0 * f[-1:])))),
)
ATTEND_MUTANTS = (
    held("attention.attend", _scaled(1.01), "attention scale off by 1 %", "scale"),
    held("attention.attend", _scaled(2**-0.5), "attention scale of twice the head size", "scale"),
    at("attention.attend", _turned, "wrong group of heads", "heads"),
    at("attention.attend", _turned, "last layer: wrong group of heads", "heads", last=True),
    at("attention.attend", _dealt, "groups dealt in turn", "heads"),
    at("attention.attend", _shifted(1), "mask off by one: a future key seen", "mask"),
    at("attention.attend", _shifted(-1), "mask off by one: the own key unseen", "mask"),
    at("attention.attend", _masked(_first_unseen), "first key unseen", "mask"),
    at("attention.attend", _masked(_one_too_few), "decode reads one key too few", "mask"),
    at("attention.attend", _masked(_window), "window of eight tokens", "mask"),
    at(
        "attention.attend",
        _masked(lambda s: {"left_padding": torch.zeros_like(s.left_padding)}),
        "padding ignored",
        "mask",
    ),
    at("attention.attend", output(lambda y: y.flip(2)), "heads of the result in reverse", "heads"),
    at("attention.attend", output(lambda y: y.bfloat16().to(y.dtype)), "result rounded to bfloat16", "downgrade"),
)
PROJECTION_MUTANTS = (
    at("attention.qkv", output(_values_turned), "values of another head", "heads"),
    at("attention.qkv", output(lambda qkv: (qkv[0], qkv[2], qkv[1])), "keys and values exchanged", "heads"),
    at("attention.o_proj", inputs(lambda x: (x.roll(1, -1),)), "output projection reads one place away", "stride"),
)

ATTENTION_MUTANTS: tuple[Mutant, ...] = (*QK_NORM_MUTANTS, *ROTARY_MUTANTS, *ATTEND_MUTANTS, *PROJECTION_MUTANTS)
