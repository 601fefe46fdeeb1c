"""Run by the tests in a process of its own: `interpret DTYPE` judges the decode kernels in Triton's interpreter,
`compile DTYPE` compiles them for a GPU. Prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace

import torch

from harness.parity.kernels.check_kernel import check_kernel
from harness.parity.kernels.compile_ahead import compile_ahead
from harness.spec.kernel import Kernel, OpCase
from models.common.attention.decode_attention import AttentionShape, decode_attention
from models.common.attention.decode_attention_cases import DECODE_ATTENTION
from models.common.kernels.workspace import Workspace
from models.common.linear.gemv import GemvShape, gemv, gemv_swiglu
from models.common.linear.gemv_cases import GEMV, GEMV_SWIGLU, matrix_compilation, vector_compilation

KERNELS = (GEMV, GEMV_SWIGLU, DECODE_ATTENTION)
WORKSPACE = Workspace.allocate(1 << 17, 64, torch.device("cpu"))


def variants() -> Iterator[Kernel]:
    """Every kernel with its default launch, then with sums split otherwise, all through one workspace."""
    yield from KERNELS
    for kernel, launch in ((GEMV, gemv), (GEMV_SWIGLU, gemv_swiglu)):
        shape = GemvShape(32, 128, 4, 2, split_k=7 if kernel is GEMV else 2)
        yield replace(
            kernel,
            name=f"{kernel.name} split {shape.split_k}",
            launch=lambda launch=launch, shape=shape, **inputs: launch(**inputs, shape=shape, workspace=WORKSPACE),
            menu=lambda *draw, kernel=kernel: (c for c in kernel.menu(*draw) if many_rows(c)),
        )
    for splits in (1, 2, 7):
        shape = AttentionShape(16, 4, 2, splits)
        yield replace(
            DECODE_ATTENTION,
            name=f"decode_attention split {splits}",
            launch=lambda shape=shape, **inputs: decode_attention(**inputs, shape=shape, workspace=WORKSPACE),
            menu=lambda *draw: (c for c in DECODE_ATTENTION.menu(*draw) if "pages of" in c.name or "prime" in c.name),
        )


def early() -> Kernel:
    """Launches that start before the previous kernel ends, which the interpreter cannot."""
    row, rows = GemvShape(4, 512, 2, 4, pdl=True, ahead=512), GemvShape(16, 256, 4, 4, 2, pdl=True, ahead=512)
    compilations = [
        vector_compilation(9728, 2560, torch.bfloat16, "swiglu", row),
        matrix_compilation(8, 2560, 9728, torch.bfloat16, "bias", rows),
    ]
    return replace(GEMV, name="early", compilations=lambda dtype: compilations)


def many_rows(case: OpCase) -> bool:
    return case.inputs["x"].shape[0] in (17, 64)


def main(mode: str, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    if mode == "compile":
        print(json.dumps([built.label() for built in compile_ahead([*KERNELS, early()], dtype)]))
        return
    said: dict[str, object] = {}
    for kernel in variants() if dtype == torch.float32 else KERNELS:
        checks = check_kernel(kernel, dtype, torch.device("cpu"), seed=1)
        said[kernel.name] = {"checks": len(checks), "failed": [repr(c) for c in checks if not c.passed]}
    said["tickets"] = int(WORKSPACE.tickets.abs().sum())
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
