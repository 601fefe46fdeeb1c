"""Everything the harness knows of this model, in one value."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from harness.spec.anatomy import Anatomy
from harness.spec.hf_config import HFConfig
from harness.spec.kernel import Cost
from harness.spec.model import ModelSpec, Stage, Workload
from harness.spec.optimization import Menu
from models.plain_qwen2.model import build

TINY = {
    "model_type": "qwen2",
    "bos_token_id": 1022,
    "eos_token_id": 1023,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.06,
    "intermediate_size": 192,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 1024,
}
STAGES = (
    Stage("input_norm", "RMSNorm", "before", "input_layernorm"),
    Stage("query", "q projection", "query", "self_attn.q_proj"),
    Stage("key", "k projection", "key", "self_attn.k_proj"),
    Stage("value", "v projection", "value", "self_attn.v_proj"),
    Stage("attention", "rotary and attention", "out:input", "self_attn.o_proj:input"),
    Stage("output", "o projection", "out", "self_attn.o_proj"),
    Stage("post_norm", "RMSNorm", "between", "post_attention_layernorm"),
    Stage("gated", "gate, up and SwiGLU", "down:input", "mlp.down_proj:input"),
    Stage("mlp", "down projection", "down", "mlp.down_proj"),
)
ANATOMY = Anatomy(
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    query_norm=None,
    key_norm=None,
    attention_norm="input_layernorm",
    feed_forward_norm="post_attention_layernorm",
    writes=("self_attn.o_proj.weight", "mlp.down_proj.weight"),
)
RENAMES = (
    ("model.embed_tokens", "table"),
    ("model.norm", "last_norm"),
    ("lm_head", "head"),
    ("model.layers", "layers"),
    ("input_layernorm", "before"),
    ("post_attention_layernorm", "between"),
    ("self_attn.q_proj", "query"),
    ("self_attn.k_proj", "key"),
    ("self_attn.v_proj", "value"),
    ("self_attn.o_proj", "out"),
    ("mlp.gate_proj", "gate"),
    ("mlp.up_proj", "up"),
    ("mlp.down_proj", "down"),
)


def rename(name: str) -> str:
    for old, new in RENAMES:
        name = name.replace(old, new)
    return name


def perturb(name: str) -> float:
    return 0.1 if "norm" in name or name.endswith("bias") else 0.0


def reference(config: HFConfig, dtype: torch.dtype, device: torch.device, weights: Path | None) -> nn.Module:
    """transformers' own Qwen2."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    options = {"dtype": dtype, "attn_implementation": "sdpa"}
    if weights is not None:
        model = AutoModelForCausalLM.from_pretrained(weights, use_safetensors=True, local_files_only=True, **options)
        return model.to(device).eval().requires_grad_(False)
    with device:
        return AutoModelForCausalLM.from_config(Qwen2Config(**config), **options).eval().requires_grad_(False)


def work(config: HFConfig, dtype: torch.dtype, load: Workload) -> Cost:
    """Every weight but the embedding read once, every cached key and value read once; attention's products left out."""
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    kv_size = hidden * config["num_key_value_heads"] // config["num_attention_heads"]
    blocks = layers * hidden * (2 * hidden + 2 * kv_size + 3 * inner)
    head, queries = hidden * config["vocab_size"], load.batch * load.tokens
    cached = 2 * layers * kv_size * load.batch * load.context_tokens
    return Cost(bytes=dtype.itemsize * (blocks + head + cached), flops=2 * queries * blocks + 2 * load.batch * head)


SPEC = ModelSpec(
    name="plain_qwen2",
    hf_id="Qwen/Qwen2-0.5B",
    revision="main",
    sizes={"tiny": TINY},
    build=build,
    reference=reference,
    rename=rename,
    perturb=perturb,
    menu=Menu(items=(), full=()),
    stages=STAGES,
    work=work,
    anatomy=ANATOMY,
)
