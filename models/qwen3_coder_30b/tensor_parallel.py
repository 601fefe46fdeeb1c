"""Which rank holds what: heads, every expert's channels and the vocabulary by share; norms and routers whole."""

from __future__ import annotations

from models.common.decoder.frame import Decoder
from models.common.parallel.optimization import one_shot_all_reduce
from models.common.parallel.plans import decoder_plan, expert_bank
from models.common.parallel.tensor_parallel import Partition, Plan, size, tensor_parallel


def plan(model: Decoder) -> Plan:
    channels = Partition("channels of an expert", size(model, "layers.0.mlp.experts.down_proj", 2))
    return decoder_plan(model, expert_bank("mlp.experts", channels))


TENSOR_PARALLEL = tensor_parallel(plan)
ONE_SHOT_ALL_REDUCE = one_shot_all_reduce(default_kib=256)
"""A step of 32 rows of 2048 channels sums as much in float32, a long prompt many more."""
