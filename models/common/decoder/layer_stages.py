"""Where errors are looked for in a layer: the stages from its first norm to its second, ours beside Hugging Face's."""

from __future__ import annotations

from harness.spec.model import Stage


def attention_stages(rotary: str = "rotary") -> tuple[Stage, ...]:
    """Return the stages of a layer up to its second norm; `rotary` says in words how heads are rotated."""
    return (
        Stage("input_norm", "RMSNorm", "input_norm[0]", "input_layernorm"),
        Stage("query", "q projection", "attention.qkv[0]", "self_attn.q_proj"),
        Stage("key", "k projection", "attention.qkv[1]", "self_attn.k_proj"),
        Stage("value", "v projection", "attention.qkv[2]", "self_attn.v_proj"),
        Stage("query_rotated", f"QK-norm and {rotary}", "@query", "@query"),
        Stage("key_cached", f"QK-norm and {rotary}, cache write", "@keys", "@keys"),
        Stage("value_cached", "cache write", "@values", "@values"),
        Stage("attention", "attention", "attention.o_proj:input", "self_attn.o_proj:input"),
        Stage("output", "o projection", "attention.o_proj", "self_attn.o_proj"),
        Stage("post_norm", "residual add and RMSNorm", "post_norm[0]", "post_attention_layernorm"),
    )


GATED_STAGE = Stage("gated", "gate, up and SwiGLU", "mlp.down_proj:input", "mlp.down_proj:input")
"""Of a `SwiGLU` at `mlp`."""
