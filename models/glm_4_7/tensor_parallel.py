"""Which rank holds what: heads, feed-forward channels of every block and every expert, and the vocabulary by share;
norms and routers whole."""

from __future__ import annotations

from models.common.decoder.frame import Decoder
from models.common.parallel.optimization import one_shot_all_reduce
from models.common.parallel.plans import decoder_plan, expert_bank, gated_block
from models.common.parallel.tensor_parallel import Partition, Plan, size, tensor_parallel


def plan(model: Decoder) -> Plan:
    sparse = f"layers.{len(model.layers) - 1}.mlp"
    channels = Partition("feed-forward channels", size(model, "layers.0.mlp.down_proj.weight", 1))
    routed = Partition("channels of an expert", size(model, f"{sparse}.routed.experts.down_proj", 2))
    shared = Partition("channels of the shared expert", size(model, f"{sparse}.shared.down_proj.weight", 1))
    return decoder_plan(
        model,
        gated_block("mlp", channels),
        expert_bank("mlp.routed.experts", routed),
        gated_block("mlp.shared", shared),
    )


TENSOR_PARALLEL = tensor_parallel(plan)
ONE_SHOT_ALL_REDUCE = one_shot_all_reduce(default_kib=256)
"""A step of 12 rows of 5120 channels sums as much in float32, a long prompt many more."""
