"""Which rank holds what: heads, every expert's channels and the vocabulary by share; norms and routers whole."""

from __future__ import annotations

from models.common.decoder.frame import Decoder
from models.common.parallel.optimization import one_shot_all_reduce
from models.common.parallel.plans import decoder_plan, expert_bank
from models.common.parallel.sharding import Pieces, Plan, tensor_parallel


def plan(model: Decoder) -> Plan:
    experts = model.layers[0].mlp.experts
    return decoder_plan(model, expert_bank("mlp.experts", Pieces("channels of an expert", experts.down_proj.shape[2])))


TENSOR_PARALLEL = tensor_parallel(plan)
ONE_SHOT_ALL_REDUCE = one_shot_all_reduce(words=1 << 16)
"""Of 4 bytes: a step of 64 rows of 2048 channels sums as many at once, a long prompt many more."""
