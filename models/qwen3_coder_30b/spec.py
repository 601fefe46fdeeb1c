"""Everything the harness knows of this model, in one value."""

from __future__ import annotations

from harness.spec.model import ModelSpec, Routing, Stage
from models.common.attention.eager import ATTENDING
from models.common.decoder.decoder_anatomy import EXPERT_WRITES, decoder_anatomy
from models.common.decoder.frame import call_positions
from models.common.decoder.layer_stages import attention_stages
from models.common.decoder.mutations import SPARSE_MUTANTS
from models.qwen3_coder_30b.config import SIZES
from models.qwen3_coder_30b.model import build
from models.qwen3_coder_30b.plugin import MENU
from models.qwen3_coder_30b.reference import reference
from models.qwen3_coder_30b.weights import merge, perturb, rename
from models.qwen3_coder_30b.work import work

STAGES = (
    *attention_stages(),
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
    anatomy=decoder_anatomy(EXPERT_WRITES),
    attending=ATTENDING,
    merge=merge,
    mutants=SPARSE_MUTANTS,
    routing=Routing("mlp.router", "mlp.gate", lambda _, logits: logits, call_positions),
)
