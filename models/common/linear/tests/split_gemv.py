"""The matrix-vector kernels cut otherwise than by default: sums split through one workspace, and starts before the
previous kernel ends, which the interpreter cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Kernel, OpCase
from models.common.kernels.workspace import Workspace
from models.common.linear.gemv import GemvShape, gemv, gemv_swiglu
from models.common.linear.gemv_cases import GEMV, GEMV_SWIGLU, matrix_compilation, vector_compilation

WORKSPACE = Workspace.allocate(1 << 17, 64, torch.device("cpu"))


def split(kernel: Kernel, product: Callable[..., Mapping[str, Tensor]], splits: int) -> Kernel:
    """Several programs to a sum; raises AssertionError where a launch leaves a ticket behind."""
    shape = GemvShape(32, 128, 4, 2, split_k=splits)

    def launch(**inputs: Any) -> Mapping[str, Tensor]:
        made = product(**inputs, shape=shape, workspace=WORKSPACE)
        assert not WORKSPACE.tickets.any(), f"{kernel.name} left tickets behind: the next launch would end too early"
        return made

    def cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        return (c for c in kernel.cases(dtype, device, generator) if c.inputs["x"].shape[0] in (17, 64))

    return replace(kernel, name=f"{kernel.name} split {splits}", launch=launch, cases=cases)


SPLIT = (split(GEMV, gemv, 7), split(GEMV_SWIGLU, gemv_swiglu, 2))
EARLY = replace(
    GEMV,
    name="early",
    compilations=lambda dtype: [
        vector_compilation(9728, 2560, dtype, "swiglu", GemvShape(4, 512, 2, 4, pdl=True, prefetch=512)),
        matrix_compilation(8, 2560, 9728, dtype, "bias", GemvShape(16, 256, 4, 4, 2, pdl=True, prefetch=512)),
    ],
)
