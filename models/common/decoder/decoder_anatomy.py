"""Which part of a Hugging Face decoder layer does what, by the names that most of them share."""

from __future__ import annotations

from harness.spec.anatomy import Anatomy

DENSE_WRITES = ("mlp.down_proj.weight",)
EXPERT_WRITES = ("mlp.experts.down_proj",)


def decoder_anatomy(
    feed_forward: tuple[str, ...], image_writes: str | None = None, image_adds: str | None = None
) -> Anatomy:
    """Return the anatomy of layers that norm queries and keys; `feed_forward` names the parameters with which their
    feed-forward blocks write to the residual stream."""
    return Anatomy(
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        query_norm="self_attn.q_norm",
        key_norm="self_attn.k_norm",
        attention_norm="input_layernorm",
        feed_forward_norm="post_attention_layernorm",
        writes=("self_attn.o_proj.weight", *feed_forward),
        image_writes=image_writes,
        image_adds=image_adds,
    )
