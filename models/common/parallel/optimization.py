"""Small sums over ranks in one launch on each of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.spec.optimization import Optimization, Receipt, Target
from harness.spec.parameter import Parameter
from models.common.decoder.swap import swap
from models.common.kernels.cuda_library import library
from models.common.parallel import one_shot_all_reduce as kernel
from models.common.parallel.joins import AllReduce
from models.common.parallel.one_shot_all_reduce import WORD_BYTES, Inbox
from models.common.parallel.one_shot_all_reduce_cases import ONE_SHOT_ALL_REDUCE


class OneShotAllReduce(nn.Module):
    """As the AllReduce it is made from, which takes what `inbox` has no room for."""

    def __init__(self, eager: AllReduce, inbox: Inbox) -> None:
        super().__init__()
        self.eager, self.inbox = eager, inbox

    def forward(self, part: Tensor, dtype: torch.dtype) -> Tensor:
        if kernel.words_of(part) > self.inbox.capacity:
            return self.eager(part, dtype)
        return kernel.all_reduce(part, dtype, self.inbox)


def one_shot_all_reduce(default_kib: int) -> Optimization:
    """For parts of up to `default_kib` KiB where nothing else is asked for."""

    def apply(model: nn.Module, target: Target, max_kib: int = default_kib) -> Receipt:
        library("one_shot_all_reduce")
        inbox = Inbox.joined(max_kib * 1024 // WORD_BYTES, target.device)
        touched = swap(model, AllReduce, lambda m: OneShotAllReduce(m, inbox))
        note = f"parts of up to {max_kib} KiB by one launch, rank {target.rank} of {target.world}"
        return Receipt("one_shot_all_reduce", touched, (note,))

    return Optimization(
        name="one_shot_all_reduce",
        summary="small parts summed over the ranks in one launch on each",
        numerics="reordered",
        apply=apply,
        kernels=(ONE_SHOT_ALL_REDUCE,),
        requires=("tensor_parallel",),
        conflicts=("compile",),
        needs=("cuda", "nvcc", "ranks"),
        parameters=(
            Parameter("max_kib", default_kib, range(16, 4097), "Largest part, in KiB, that is summed in one launch."),
        ),
    )
