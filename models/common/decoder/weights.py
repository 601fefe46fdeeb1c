"""Tables from Hugging Face's parameter names to ours, and the noise that makes a parameter's absence visible."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Renames = tuple[tuple[str, str], ...]
"""(part of their name, ours), replaced one after another."""

LAYER_RENAMES: Renames = (
    ("embed_tokens.", "embed."),
    ("self_attn.q_norm", "attention.rotary.q_norm"),
    ("self_attn.k_norm", "attention.rotary.k_norm"),
    ("self_attn.o_proj", "attention.o_proj"),
    ("self_attn.", "attention.qkv."),
    ("input_layernorm", "input_norm"),
    ("post_attention_layernorm", "post_norm"),
)
"""Of a `frame.Layer` with an `Attention`."""
GATED_RENAMES: Renames = (("mlp.gate_proj", "mlp.gate_up.gate_proj"), ("mlp.up_proj", "mlp.gate_up.up_proj"))
"""Of a `SwiGLU` at `mlp`."""


def renaming(*renames: tuple[str, str]) -> Callable[[str], str]:
    """Return the function from their name of a parameter to ours."""

    def rename(name: str) -> str:
        for old, new in renames:
            name = name.replace(old, new)
        return name

    return rename


def perturbing(noise: Mapping[str, float]) -> Callable[[str], float]:
    """Return the function from their name of a parameter to the standard deviation of what is added to it, that of the
    first part it contains, and 0 without one. Norm weights start at 1 in Hugging Face and biases at 0: a missing one
    would not show."""

    def perturb(name: str) -> float:
        return next((deviation for part, deviation in noise.items() if part in name), 0.0)

    return perturb
