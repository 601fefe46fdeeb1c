"""Everything the harness knows of this model, in one value."""

from __future__ import annotations

from harness.spec.model import ModelSpec, Routing, Stage
from models.common.attention.eager import ATTENDING
from models.common.decoder.frame import call_positions
from models.common.decoder.mutations import SPARSE_MUTANTS
from models.qwen3_coder_30b.config import SIZES
from models.qwen3_coder_30b.model import build
from models.qwen3_coder_30b.plugin import MENU
from models.qwen3_coder_30b.reference import reference
from models.qwen3_coder_30b.weights import merge, perturb, rename
from models.qwen3_coder_30b.work import work

STAGES = (
    Stage("input_norm", "RMSNorm", "input_norm[0]", "input_layernorm"),
    Stage("query", "q projection", "attention.qkv[0]", "self_attn.q_proj"),
    Stage("key", "k projection", "attention.qkv[1]", "self_attn.k_proj"),
    Stage("value", "v projection", "attention.qkv[2]", "self_attn.v_proj"),
    Stage("query_rotated", "QK-norm and rotary", "@query", "@query"),
    Stage("key_cached", "QK-norm and rotary, cache write", "@keys", "@keys"),
    Stage("value_cached", "cache write", "@values", "@values"),
    Stage("attention", "attention", "attention.o_proj:input", "self_attn.o_proj:input"),
    Stage("output", "o projection", "attention.o_proj", "self_attn.o_proj"),
    Stage("post_norm", "residual add and RMSNorm", "post_norm[0]", "post_attention_layernorm"),
    Stage("experts", "experts", "mlp", "mlp"),
)

SPEC = ModelSpec(
    name="qwen3_coder_30b",
    hf_id="Qwen/Qwen3-Coder-30B-A3B-Instruct",
    revision="b2cff646eb4bb1d68355c01b18ae02e7cf42d120",
    sizes=SIZES,
    build=build,
    reference=reference,
    rename=rename,
    perturb=perturb,
    menu=MENU,
    stages=STAGES,
    work=work,
    attending=ATTENDING,
    merge=merge,
    mutants=SPARSE_MUTANTS,
    routing=Routing("mlp.router", "mlp.gate", lambda _, logits: logits, call_positions),
)
