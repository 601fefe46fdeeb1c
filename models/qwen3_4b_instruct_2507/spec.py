"""Everything the harness knows of this model, in one value."""

from __future__ import annotations

from harness.spec.model import ModelSpec, Stage
from models.common.attention.eager import ATTENDING
from models.common.decoder.decoder_anatomy import DENSE_WRITES, decoder_anatomy
from models.common.decoder.layer_stages import GATED_STAGE, attention_stages
from models.common.decoder.mutations import DENSE_MUTANTS
from models.qwen3_4b_instruct_2507.config import SIZES
from models.qwen3_4b_instruct_2507.model import build
from models.qwen3_4b_instruct_2507.plugin import MENU
from models.qwen3_4b_instruct_2507.reference import reference
from models.qwen3_4b_instruct_2507.weights import perturb, rename
from models.qwen3_4b_instruct_2507.work import work

STAGES = (
    *attention_stages(),
    GATED_STAGE,
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
    anatomy=decoder_anatomy(DENSE_WRITES),
    attending=ATTENDING,
    mutants=DENSE_MUTANTS,
)
