"""Run by the tests in a process of its own: `interpret DTYPE` judges the products with quantized weights in Triton's
interpreter, `compile DTYPE` compiles them for a GPU. Prints JSON."""

from __future__ import annotations

import json
import sys

import torch

from harness.parity.kernels.check_kernel import check_kernel
from harness.parity.kernels.compile_ahead import compile_ahead
from models.common.quantization.quantized_gemv_cases import GEMV_FP8, GEMV_INT4, GEMV_INT8

KERNELS = (GEMV_INT8, GEMV_FP8, GEMV_INT4)


def main(mode: str, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    if mode == "compile":
        print(json.dumps([built.label() for built in compile_ahead(KERNELS, dtype)]))
        return
    said: dict[str, object] = {}
    for kernel in KERNELS:
        checks = check_kernel(kernel, dtype, torch.device("cpu"), seed=1)
        said[kernel.name] = {"checks": len(checks), "failed": [repr(c) for c in checks if not c.passed]}
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
