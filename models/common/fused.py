"""Modules that stand where their eager twins stood and launch one kernel instead."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.spec.parameter import Parameter
from models.common.attention import decode_attention, prefill_attention
from models.common.attention.decode_attention import MAX_SPLITS
from models.common.attention.eager import Attend, NormRotateWrite
from models.common.cache.kv_cache import LayerCache, Slots
from models.common.kernels.workspace import Workspace
from models.common.mlp import swiglu
from models.common.norms import rms_norm
from models.common.norms.eager import AddRMSNorm, RMSNorm
from models.common.rotary import norm_rotate_write

SPLITS = Parameter(
    "max_splits",
    MAX_SPLITS,
    range(1, MAX_SPLITS + 1),
    "Most programs that share one row's keys for one key-value head in a decode step.",
)


class FusedAddRMSNorm(nn.Module):
    """As AddRMSNorm."""

    def __init__(self, norm: AddRMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, delta: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
        if delta is None:
            return rms_norm.launch_norm(residual, self.weight, self.eps)["normed"], residual
        done = rms_norm.launch_add_norm(delta, residual, self.weight, self.eps)
        return done["normed"], done["residual"]


class FusedGate(nn.Module):
    """silu(gate) * up."""

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        return swiglu.launch(gate, up)["out"]


def rms_norms(eager: NormRotateWrite) -> tuple[RMSNorm, RMSNorm]:
    """The norms of queries and of keys. Raises TypeError for a model whose heads are normed otherwise or not at all."""
    q_norm, k_norm = eager.q_norm, eager.k_norm
    if not isinstance(q_norm, RMSNorm) or not isinstance(k_norm, RMSNorm):
        raise TypeError(f"this kernel norms heads as RMSNorm does, and the model has a {type(q_norm).__name__}")
    return q_norm, k_norm


class FusedNormRotateWrite(nn.Module):
    """As NormRotateWrite."""

    def __init__(self, eager: NormRotateWrite) -> None:
        super().__init__()
        self.q_norm, self.k_norm = rms_norms(eager)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots
    ) -> Tensor:
        return norm_rotate_write.launch(
            q,
            k,
            v,
            self.q_norm.weight,
            self.k_norm.weight,
            cos,
            sin,
            cache.keys,
            cache.values,
            slots.table,
            slots.lengths,
            self.q_norm.eps,
        )["q"]


class FusedRotateWrite(nn.Module):
    """As NormRotateWrite of a model that norms no head. Raises ValueError for one that does."""

    def __init__(self, eager: NormRotateWrite) -> None:
        super().__init__()
        if any(type(norm) is not nn.Identity for norm in (eager.q_norm, eager.k_norm)):
            raise ValueError("this kernel norms no head, and the model does: its norms would be lost")

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots
    ) -> Tensor:
        pages = (cache.keys, cache.values, slots.table, slots.lengths)
        return norm_rotate_write.launch_rotate(q, k, v, cos, sin, *pages)["q"]


class FlashAttend(nn.Module):
    """As Attend: keys split among at most `max_splits` programs for one query token, online softmax over blocks for
    more."""

    def __init__(self, eager: Attend, workspaces: Workspaces, max_splits: int = MAX_SPLITS) -> None:
        super().__init__()
        self.scale, self.workspaces, self.max_splits = eager.scale, workspaces, max_splits

    def forward(self, q: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
        inputs = (q, cache.keys, cache.values, slots.table, slots.starts, slots.lengths, self.scale)
        if slots.tokens > 1:
            return prefill_attention.launch(*inputs)["out"]
        batch, _, heads, size = q.shape
        _, kv_heads, page_tokens, _ = cache.keys.shape
        sizes = (batch, kv_heads, page_tokens, slots.bound, q.element_size())
        shape = decode_attention.default_shape(*sizes, self.max_splits)
        needed = decode_attention.needs(batch, heads, size, shape.splits)
        return decode_attention.decode_attention(*inputs, shape, self.workspaces.get(needed, q.device))["out"]


class Workspaces:
    """Partial results of attention, shared by the layers of one model, one per size; kept for as long as the model,
    because a captured graph holds their addresses."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, int], Workspace] = {}

    def get(self, needed: tuple[int, int], device: torch.device) -> Workspace:
        if needed not in self.made:
            self.made[needed] = Workspace.allocate(*needed, device)
        return self.made[needed]
