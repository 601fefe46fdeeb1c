"""Which rank holds what of the language model: heads and feed-forward channels by share, the vocabulary by share. Every
rank holds the whole tower and sees every image: it is a fifth of the weights, and cutting it would cost two all-reduces
a block."""

from __future__ import annotations

from models.common.parallel.optimization import one_shot_all_reduce
from models.common.parallel.plans import decoder_plan, gated_block
from models.common.parallel.tensor_parallel import Partition, Plan, tensor_parallel
from models.qwen3_vl_2b.model import Qwen3VL


def plan(model: Qwen3VL) -> Plan:
    return decoder_plan(model, gated_block("mlp", Partition("feed-forward channels", model.geometry.text.intermediate)))


TENSOR_PARALLEL = tensor_parallel(plan)
ONE_SHOT_ALL_REDUCE = one_shot_all_reduce(default_kib=256)
"""A step of 32 rows of 2048 channels sums as much in float32; the tower sums nothing."""
