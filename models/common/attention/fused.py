"""Attention over a cache through the prefill and decode kernels."""

from __future__ import annotations

from torch import Tensor, nn

from models.common.attention import decode_attention, prefill_attention
from models.common.attention.eager import Attend
from models.common.attention.tuned_shapes import Shapes, default_shapes
from models.common.cache.kv_cache import LayerCache, Slots
from models.common.kernels.workspace import Workspaces


class FlashAttend(nn.Module):
    """As Attend: split keys for one query token, online softmax over blocks for more."""

    def __init__(self, eager: Attend, workspaces: Workspaces, shapes: Shapes | None = None) -> None:
        super().__init__()
        self.scale, self.workspaces, self.shapes = eager.scale, workspaces, shapes or default_shapes()

    def forward(self, q: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
        inputs = (q, cache.keys, cache.values, slots.table, slots.starts, slots.lengths, self.scale)
        if slots.tokens > 1:
            return prefill_attention.launch(*inputs)["out"]
        batch, _, heads, size = q.shape
        _, kv_heads, page_tokens, _ = cache.keys.shape
        shape = self.shapes(batch, heads, kv_heads, page_tokens, slots.bound, q.element_size())
        needed = decode_attention.needs(batch, heads, size, shape.splits)
        return decode_attention.decode_attention(*inputs, shape, self.workspaces.get(needed, q.device))["out"]
