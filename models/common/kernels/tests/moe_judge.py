"""Run by the tests in a process of its own: `interpret DTYPE` judges the kernels of experts in Triton's interpreter;
`compile DTYPE` compiles them for a GPU. Prints JSON."""

from __future__ import annotations

import json
import sys

import torch

from harness.parity.aot import compile_ahead
from models.common.kernels.moe_cases import MOE
from models.common.kernels.tests.layer_judge import failed

KERNELS = MOE


def main(mode: str, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    if mode == "compile":
        print(json.dumps([built.label() for built in compile_ahead(KERNELS, dtype)]))
        return
    print(json.dumps({kernel.name: failed(kernel, dtype) for kernel in KERNELS}))


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
