"""Run by the tests in a process of its own: `interpret DTYPE` judges the router kernels in Triton's interpreter;
`compile DTYPE` compiles them for a GPU. Prints JSON."""

from __future__ import annotations

import json
import sys

import torch

from harness.parity.aot import compile_ahead
from models.common.kernels.sigmoid_router_cases import SIGMOID_ROUTER
from models.common.kernels.softmax_router_cases import SOFTMAX_ROUTER
from models.common.kernels.tests.layer_judge import failed

KERNELS = (SIGMOID_ROUTER, SOFTMAX_ROUTER)


def main(mode: str, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    if mode == "compile":
        print(json.dumps([built.label() for built in compile_ahead(KERNELS, dtype)]))
        return
    print(json.dumps({kernel.name: failed(kernel, dtype) for kernel in KERNELS}))


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
