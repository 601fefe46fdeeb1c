"""Everything the harness knows of this model, in one value."""

from __future__ import annotations

from torch import Tensor, nn

from harness.spec.model import ModelSpec, Routing, Stage
from models.common.attention.eager import ATTENDING
from models.common.decoder.decoder_anatomy import DENSE_WRITES, EXPERT_WRITES, decoder_anatomy
from models.common.decoder.frame import call_positions
from models.common.decoder.layer_stages import GATED_STAGE, attention_stages
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
    *attention_stages(),
    GATED_STAGE,
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
    anatomy=decoder_anatomy((*DENSE_WRITES, *EXPERT_WRITES, "mlp.shared_experts.down_proj.weight")),
    attending=ATTENDING,
    merge=merge,
    mutants=(*DENSE_MUTANTS, *expert_mutants("mlp.routed"), *SHARED_EXPERT_MUTANTS),
    routing=Routing("mlp.routed.router", "mlp.gate", ranks, call_positions),
)
