"""Small sums over ranks in one launch on each of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.spec.optimization import Optimization, Receipt, Target
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


def one_shot_all_reduce(words: int) -> Optimization:
    """For parts of up to so many words of 4 bytes."""
    limit = f"parts of up to {words * WORD_BYTES // 1024} KiB"

    def apply(model: nn.Module, target: Target) -> Receipt:
        library(kernel.SOURCE)
        inbox = Inbox.joined(words, target.device)
        touched = swap(model, AllReduce, lambda m: OneShotAllReduce(m, inbox))
        return Receipt(
            "one_shot_all_reduce", touched, (f"{limit} by one launch, rank {target.rank} of {target.world}",)
        )

    return Optimization(
        name="one_shot_all_reduce",
        summary=f"{limit} summed over the ranks in one launch on each",
        numerics="reordered",
        apply=apply,
        kernels=(ONE_SHOT_ALL_REDUCE,),
        requires=("tensor_parallel",),
        conflicts=("compile",),
        needs=("cuda", "nvcc", "ranks"),
    )
