"""Which rank holds what: heads and feed-forward channels by share, the vocabulary by share, norms whole."""

from __future__ import annotations

from models.common.decoder.frame import Decoder
from models.common.parallel.optimization import one_shot_all_reduce
from models.common.parallel.plans import decoder_plan, gated_block
from models.common.parallel.tensor_parallel import Partition, Plan, size, tensor_parallel


def plan(model: Decoder) -> Plan:
    channels = Partition("feed-forward channels", size(model, "layers.0.mlp.down_proj.weight", 1))
    return decoder_plan(model, gated_block("mlp", channels))


TENSOR_PARALLEL = tensor_parallel(plan)
ONE_SHOT_ALL_REDUCE = one_shot_all_reduce(default_kib=256)
"""A step of 25 rows of 2560 channels sums as much in float32, a long prompt many more."""
