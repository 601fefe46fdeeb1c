"""Run by the tests in a process of its own: `interpret DTYPE` judges the norm, gate, rotary and prefill kernels in
Triton's interpreter; `compile DTYPE` compiles them for a GPU. Prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.parity.kernels.check_kernel import check_kernel
from harness.parity.kernels.compile_ahead import compile_ahead
from harness.spec.kernel import Kernel, OpCase
from models.common.attention import prefill_attention
from models.common.attention.prefill_attention import PrefillShape
from models.common.attention.prefill_attention_cases import PREFILL_ATTENTION
from models.common.mlp.swiglu import SWIGLU
from models.common.norms.rms_norm import ADD_NORM, NORM
from models.common.rotary.norm_rotate_write_cases import NORM_ROTATE_WRITE, ROTATE_WRITE

CPU = torch.device("cpu")
KERNELS = (NORM, ADD_NORM, SWIGLU, NORM_ROTATE_WRITE, ROTATE_WRITE, PREFILL_ATTENTION)


def only(kernel: Kernel, *names: str) -> Any:
    def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        return (case for case in kernel.menu(dtype, device, generator) if case.name in names)

    return menu


def finer() -> Kernel:
    """Prefill attention in blocks so small that every kind of block occurs in a short prompt."""

    def launch(**inputs: Any) -> Mapping[str, Tensor]:
        return prefill_attention.launch(**inputs, shape=PrefillShape(32, 16, 4, 2))

    cases = ("chunk after a past", "left padding", "stale memory")
    return replace(PREFILL_ATTENTION, name="finer", launch=launch, menu=only(PREFILL_ATTENTION, *cases))


def failed(kernel: Kernel, dtype: torch.dtype) -> list[str]:
    return [repr(check) for check in check_kernel(kernel, dtype, CPU, seed=1) if not check.passed]


def main(mode: str, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    if mode == "compile":
        print(json.dumps([built.label() for built in compile_ahead(KERNELS, dtype)]))
        return
    exact = dtype == torch.float32
    kernels = {kernel.name: failed(kernel, dtype) for kernel in (*KERNELS, *([finer()] if exact else []))}
    print(json.dumps({"kernels": kernels}))


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
