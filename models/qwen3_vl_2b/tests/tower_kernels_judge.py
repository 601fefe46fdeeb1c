"""Run by the tests in a process of its own: `interpret DTYPE` judges the kernels of a vision tower in Triton's
interpreter; `compile DTYPE` compiles them for a GPU. Prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.parity.kernels.check_kernel import check_kernel
from harness.parity.kernels.compile_ahead import compile_ahead
from harness.spec.kernel import Kernel
from models.qwen3_vl_2b.kernels.layer_norm import ADD_LAYER_NORM, LAYER_NORM
from models.qwen3_vl_2b.kernels.rotate_pair import ROTATE_PAIR
from models.qwen3_vl_2b.kernels.segment_attention import SegmentShape
from models.qwen3_vl_2b.kernels.segment_attention import launch as attend
from models.qwen3_vl_2b.kernels.segment_attention_cases import SEGMENT_ATTENTION

CPU = torch.device("cpu")
KERNELS = (LAYER_NORM, ADD_LAYER_NORM, ROTATE_PAIR, SEGMENT_ATTENTION)


def finer() -> Kernel:
    """Segment attention in blocks so small that whole and cut blocks follow each other."""

    def launch(**inputs: Any) -> Mapping[str, Tensor]:
        return attend(**inputs, shape=SegmentShape(16, 16, 4, 2))

    return replace(SEGMENT_ATTENTION, name="finer", launch=launch)


def failed(kernel: Kernel, dtype: torch.dtype) -> list[str]:
    return [repr(check) for check in check_kernel(kernel, dtype, CPU, seed=1) if not check.passed]


def main(mode: str, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    if mode == "compile":
        print(json.dumps([built.label() for built in compile_ahead(KERNELS, dtype)]))
        return
    single = dtype == torch.float32
    kernels = {kernel.name: failed(kernel, dtype) for kernel in (*KERNELS, *([finer()] if single else []))}
    print(json.dumps(kernels))


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
