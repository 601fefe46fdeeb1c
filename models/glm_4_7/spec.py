"""Everything the harness knows of this model, in one value."""

from __future__ import annotations

from torch import Tensor, nn

from harness.spec.model import ModelSpec, Routing, Stage
from models.common.attention.eager import ATTENDING
from models.common.decoder.frame import call_positions
from models.common.decoder.mutations import DENSE_MUTANTS
from models.common.moe.mutations import expert_mutants
from models.glm_4_7.config import SIZES
from models.glm_4_7.model import build
from models.glm_4_7.mutants import SHARED_EXPERT_MUTANTS
from models.glm_4_7.plugin import MENU
from models.glm_4_7.reference import reference
from models.glm_4_7.weights import merge, perturb, rename
from models.glm_4_7.work import work

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
    Stage("shared_gated", "gate, up and SwiGLU", "mlp.shared.down_proj:input", "mlp.shared_experts.down_proj:input"),
    Stage("shared", "shared expert", "mlp.shared", "mlp.shared_experts"),
    Stage("down", "down projection", "mlp.down_proj", "mlp.down_proj"),
    Stage("experts", "experts, and their sum with the shared one", "mlp", "mlp"),
)


def ranks(gate: nn.Module, logits: Tensor) -> Tensor:
    """logits [N, E] -> the corrected scores that choose."""
    return logits.sigmoid() + gate.get_buffer("e_score_correction_bias")


SPEC = ModelSpec(
    name="glm_4_7",
    hf_id="zai-org/GLM-4.7",
    revision="602d01efcdd332c5238ca4bcede555defbe83eb7",
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
    mutants=(*DENSE_MUTANTS, *expert_mutants("mlp.routed"), *SHARED_EXPERT_MUTANTS),
    routing=Routing("mlp.routed.router", "mlp.gate", ranks, call_positions),
)
