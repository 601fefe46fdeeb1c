"""Run by the tests in a process of its own: `interpret DTYPE` judges the kernels around the projections in Triton's
interpreter, `compile DTYPE` compiles them for a GPU. Prints JSON."""

from __future__ import annotations

import json
import sys

import torch

from harness.parity.aot import compile_ahead
from harness.parity.op import check_kernel
from models.common.kernels.norm_rotate_write import NORM_ROTATE_WRITE
from models.common.kernels.prefill_attention import PREFILL_ATTENTION
from models.common.kernels.rms_norm import ADD_NORM, NORM
from models.common.kernels.swiglu import SWIGLU

KERNELS = (NORM, ADD_NORM, SWIGLU, NORM_ROTATE_WRITE, PREFILL_ATTENTION)

if __name__ == "__main__":
    mode, dtype = sys.argv[1], getattr(torch, sys.argv[2])
    torch.set_num_threads(1)
    if mode == "compile":
        found: object = [compiled.label() for compiled in compile_ahead(KERNELS, dtype)]
    else:
        judged = {kernel.name: check_kernel(kernel, dtype, torch.device("cpu"), seed=1) for kernel in KERNELS}
        found = {
            name: {"checks": len(checks), "failed": [f"{c.name}: {c.rule}" for c in checks if not c.passed]}
            for name, checks in judged.items()
        }
    print(json.dumps(found))
