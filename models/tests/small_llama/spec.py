"""Everything the harness knows of this model, in one value."""

from __future__ import annotations

from dataclasses import replace

from harness.spec.model import ModelSpec, Stage
from models.common.attention.eager import ATTENDING
from models.common.attention.mutations import ATTEND_MUTANTS, PROJECTION_MUTANTS, ROTARY_MUTANTS
from models.common.cache.mutations import CACHE_MUTANTS
from models.common.decoder.decoder_anatomy import DENSE_WRITES, decoder_anatomy
from models.common.decoder.residual_mutations import RESIDUAL_MUTANTS
from models.common.mlp.mutations import GATED_MUTANTS
from models.small_llama.config import SIZES
from models.small_llama.model import build
from models.small_llama.plugin import MENU
from models.small_llama.reference import reference
from models.small_llama.weights import perturb, rename
from models.small_llama.work import work

HEAD_MUTANTS = (*ROTARY_MUTANTS, *ATTEND_MUTANTS, *PROJECTION_MUTANTS)
STAGES = (
    Stage("input_norm", "RMSNorm", "input_norm[0]", "input_layernorm"),
    Stage("query", "q projection", "attention.qkv[0]", "self_attn.q_proj"),
    Stage("key", "k projection", "attention.qkv[1]", "self_attn.k_proj"),
    Stage("value", "v projection", "attention.qkv[2]", "self_attn.v_proj"),
    Stage("query_rotated", "rotary", "@query", "@query"),
    Stage("key_cached", "rotary, cache write", "@keys", "@keys"),
    Stage("value_cached", "cache write", "@values", "@values"),
    Stage("attention", "attention", "attention.o_proj:input", "self_attn.o_proj:input"),
    Stage("output", "o projection", "attention.o_proj", "self_attn.o_proj"),
    Stage("post_norm", "residual add and RMSNorm", "post_norm[0]", "post_attention_layernorm"),
    Stage("gated", "gate, up and SwiGLU", "mlp.down_proj:input", "mlp.down_proj:input"),
    Stage("mlp", "down projection", "mlp.down_proj", "mlp.down_proj"),
)

SPEC = ModelSpec(
    name="small_llama",
    hf_id="HuggingFaceTB/SmolLM-135M",
    revision="main",
    sizes=SIZES,
    build=build,
    reference=reference,
    rename=rename,
    perturb=perturb,
    menu=MENU,
    stages=STAGES,
    work=work,
    anatomy=replace(decoder_anatomy(DENSE_WRITES), query_norm=None, key_norm=None),
    attending=ATTENDING,
    mutants=(*HEAD_MUTANTS, *CACHE_MUTANTS, *RESIDUAL_MUTANTS, *GATED_MUTANTS),
)
