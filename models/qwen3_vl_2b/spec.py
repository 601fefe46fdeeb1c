"""Everything the harness knows of this model, in one value."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from harness.spec.hf_config import HFConfig
from harness.spec.model import ModelSpec, Stage
from harness.spec.model_inputs import ModelInputs
from harness.spec.vision import Part, Vision
from models.common.attention.eager import ATTENDING
from models.common.decoder.decoder_anatomy import DENSE_WRITES, decoder_anatomy
from models.common.decoder.layer_stages import GATED_STAGE, attention_stages
from models.common.decoder.mutations import DENSE_MUTANTS
from models.qwen3_vl_2b.config import SIZES, geometry
from models.qwen3_vl_2b.grid import patches
from models.qwen3_vl_2b.inputs import inputs
from models.qwen3_vl_2b.model import build
from models.qwen3_vl_2b.mutants import VISION_MUTANTS
from models.qwen3_vl_2b.plugin import MENU
from models.qwen3_vl_2b.reference import features, positions, reference
from models.qwen3_vl_2b.weights import perturb, rename
from models.qwen3_vl_2b.work import work

STAGES = (
    *attention_stages("three-axis rotary"),
    GATED_STAGE,
    Stage("mlp", "down projection", "mlp.down_proj", "mlp.down_proj"),
)


def parts(config: HFConfig) -> tuple[Part, ...]:
    """The tower in the order the data flows."""
    g = geometry(config).vision
    blocks = [Part(f"tower block {i}", "attention and MLP", f"blocks.{i}", _block(i), True) for i in range(g.blocks)]
    deep = [
        Part(f"deep feature {i}", "deep merger", f"deepstack_merger_list.{i}", _deep_merger(i))
        for i in range(len(g.deep))
    ]
    return (
        Part("tower embedding", "patch projection and positions", "blocks.0:input", _embed),
        *blocks,
        *deep,
        Part("image embeddings", "merger", "merger", lambda model, _, x: model.tower.merger(x)),
    )


def _embed(model: Any, prompt: ModelInputs, pixels: Tensor) -> Tensor:
    at = patches(_flat(prompt), model.geometry.vision, pixels.device)
    return model.tower.embedding(pixels, at)


def _block(index: int) -> Any:
    return lambda model, prompt, x: model.tower.block(index, x, _flat(prompt))


def _deep_merger(index: int) -> Any:
    return lambda model, _, x: model.tower.deep_mergers[index](x)


def _flat(prompt: ModelInputs) -> list[Any]:
    return [grid for row in prompt.grids for grid in row]


SPEC = ModelSpec(
    name="qwen3_vl_2b",
    hf_id="Qwen/Qwen3-VL-2B-Instruct",
    revision="89644892e4d85e24eaac8bacfd4f463576704203",
    sizes=SIZES,
    build=build,
    reference=reference,
    rename=rename,
    perturb=perturb,
    menu=MENU,
    stages=STAGES,
    work=work,
    anatomy=decoder_anatomy(
        DENSE_WRITES,
        image_writes="model.visual.merger.linear_fc2",
        image_adds="model.visual.deepstack_merger_list.*.linear_fc2",
    ),
    attending=ATTENDING,
    mutants=(*DENSE_MUTANTS, *VISION_MUTANTS),
    decoder="model.language_model",
    vision=Vision(inputs, "model.visual", features, positions, parts),
)
