"""Attention over a cache through the prefill and decode kernels."""

from __future__ import annotations

from torch import Tensor, nn

from models.common.attention import decode_attention, prefill_attention
from models.common.attention.decode_attention import MAX_SPLITS
from models.common.attention.eager import Attend
from models.common.attention.tuned_shapes import Shapes, default_shapes
from models.common.cache.kv_cache import LayerCache, Slots
from models.common.kernels.workspace import Workspaces


class FlashAttend(nn.Module):
    """As Attend: keys split among at most `max_splits` programs for one query token, online softmax over blocks for
    more."""

    def __init__(
        self, eager: Attend, workspaces: Workspaces, shapes: Shapes = default_shapes, max_splits: int = MAX_SPLITS
    ) -> None:
        super().__init__()
        self.scale, self.workspaces, self.shapes, self.max_splits = eager.scale, workspaces, shapes, max_splits

    def forward(self, q: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
        inputs = (q, cache.keys, cache.values, slots.block_table, slots.left_padding, slots.seq_lens, self.scale)
        if slots.tokens > 1:
            return prefill_attention.launch(*inputs)["out"]
        batch, _, heads, size = q.shape
        _, kv_heads, page_tokens, _ = cache.keys.shape
        sizes = (batch, heads, kv_heads, page_tokens, slots.max_len, q.element_size())
        shape = self.shapes(*sizes, self.max_splits)
        needed = decode_attention.needs(batch, heads, size, shape.splits)
        return decode_attention.decode_attention(*inputs, shape, self.workspaces.get(needed, q.device))["out"]
