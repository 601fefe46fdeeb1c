"""Everything the harness knows of this model, in one value."""

from __future__ import annotations

from harness.spec.model import ModelSpec, Stage
from models.common.attention.eager import ATTENDING
from models.common.decoder.mutations import DENSE_MUTANTS
from models.qwen3_4b_instruct_2507.config import SIZES
from models.qwen3_4b_instruct_2507.model import build
from models.qwen3_4b_instruct_2507.plugin import MENU
from models.qwen3_4b_instruct_2507.reference import reference
from models.qwen3_4b_instruct_2507.weights import perturb, rename
from models.qwen3_4b_instruct_2507.work import work

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
    Stage("gated", "gate, up and SwiGLU", "mlp.down_proj:input", "mlp.down_proj:input"),
    Stage("mlp", "down projection", "mlp.down_proj", "mlp.down_proj"),
)

SPEC = ModelSpec(
    name="qwen3_4b_instruct_2507",
    hf_id="Qwen/Qwen3-4B-Instruct-2507",
    revision="cdbee75f17c01a7cc42f958dc650907174af0554",
    sizes=SIZES,
    build=build,
    reference=reference,
    rename=rename,
    perturb=perturb,
    menu=MENU,
    stages=STAGES,
    work=work,
    attending=ATTENDING,
    mutants=DENSE_MUTANTS,
)
