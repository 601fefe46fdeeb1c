"""Run by the tests in a process of its own: `interpret DTYPE` judges the norm, gate, rotary and prefill kernels in
Triton's interpreter, in float32 also with one fault each; `compile DTYPE` compiles them for a GPU. Prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.parity.aot import compile_ahead
from harness.parity.op import check_kernel
from harness.spec import Kernel, OpCase
from models.common.kernels import prefill_attention
from models.common.kernels.norm_rotate_write_cases import NORM_ROTATE_WRITE
from models.common.kernels.prefill_attention import PrefillShape
from models.common.kernels.prefill_attention_cases import PREFILL_ATTENTION
from models.common.kernels.rms_norm import ADD_NORM, NORM
from models.common.kernels.swiglu import SWIGLU

CPU = torch.device("cpu")
KERNELS = (NORM, ADD_NORM, SWIGLU, NORM_ROTATE_WRITE, PREFILL_ATTENTION)
Inputs = dict[str, Any]


@dataclass(frozen=True)
class Mutant:
    """A kernel given other arguments than it was asked with: a fault in reading them. `case` is the menu entry on which
    the judge must see it."""

    fault: str
    kernel: Kernel
    case: str
    change: Callable[[Inputs], Inputs]

    def faulty(self) -> Kernel:
        def launch(**inputs: Any) -> Mapping[str, Tensor]:
            return self.kernel.launch(**{**inputs, **self.change(inputs)})

        return replace(self.kernel, launch=launch, menu=only(self.kernel, self.case))


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


MUTANTS = (
    Mutant("epsilon dropped", NORM, "small", lambda i: {"eps": 0.0}),
    Mutant("epsilon ten times too large", ADD_NORM, "small", lambda i: {"eps": 1e-5}),
    Mutant("weight dropped", ADD_NORM, "7x320 normal", lambda i: {"weight": torch.ones_like(i["weight"])}),
    Mutant("residual not added", ADD_NORM, "7x320 normal", lambda i: {"delta": torch.zeros_like(i["delta"])}),
    Mutant("gate and up exchanged", SWIGLU, "7x608 normal", lambda i: {"gate": i["up"], "up": i["gate"]}),
    Mutant("tail dropped", SWIGLU, "3x1025 normal", lambda i: {"up": without_last(i["up"], -1)}),
    Mutant("key weight on queries", NORM_ROTATE_WRITE, "GQA 8", lambda i: {"q_weight": i["k_weight"]}),
    Mutant("rotated the other way", NORM_ROTATE_WRITE, "GQA 12 half width", lambda i: {"sin": -i["sin"]}),
    Mutant("written one slot early", NORM_ROTATE_WRITE, "GQA 4 paged", lambda i: {"lengths": i["lengths"] - 1}),
    Mutant("pages exchanged", NORM_ROTATE_WRITE, "GQA 4 paged", lambda i: {"table": i["table"].flip(1)}),
    Mutant("values of other heads", NORM_ROTATE_WRITE, "separate", lambda i: {"v": i["v"].flip(2).contiguous()}),
    Mutant("scale off by 1 %", PREFILL_ATTENTION, "paged chunk", lambda i: {"scale": i["scale"] * 1.01}),
    Mutant("mask off by one", PREFILL_ATTENTION, "left padding", lambda i: {"lengths": i["lengths"] + 1}),
    Mutant("one padding key seen", PREFILL_ATTENTION, "padding in the past", lambda i: {"starts": i["starts"] - 1}),
    Mutant("first key unseen", PREFILL_ATTENTION, "left padding", lambda i: {"starts": i["starts"] + 1}),
    Mutant("pages exchanged", PREFILL_ATTENTION, "paged chunk", lambda i: {"table": i["table"].roll(1, 1)}),
    Mutant("wrong group of heads", PREFILL_ATTENTION, "paged chunk", lambda i: {"q": i["q"].flip(2)}),
    Mutant("last value unread", PREFILL_ATTENTION, "two tokens", lambda i: {"v_pages": cleared(i)}),
)


def without_last(x: Tensor, axis: int) -> Tensor:
    x = x.clone()
    x.select(axis, -1).zero_()
    return x


def cleared(inputs: Inputs) -> Tensor:
    """The values with the last slot in use of row 0 at zero."""
    pages = inputs["v_pages"].clone()
    pages[inputs["table"][0, 0], :, inputs["lengths"][0] - 1] = 0
    return pages


def failed(kernel: Kernel, dtype: torch.dtype) -> list[str]:
    return [repr(check) for check in check_kernel(kernel, dtype, CPU, seed=1) if not check.passed]


def killed(mutant: Mutant) -> bool:
    """Whether an output is judged wrong; what check_kernel says about its own judgment does not count."""
    checks = check_kernel(mutant.faulty(), torch.float32, CPU, seed=1)
    return any(not check.passed for check in checks if mutant.case in check.name)


def main(mode: str, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    if mode == "compile":
        print(json.dumps([built.label() for built in compile_ahead(KERNELS, dtype)]))
        return
    exact = dtype == torch.float32
    kernels = {kernel.name: failed(kernel, dtype) for kernel in (*KERNELS, *([finer()] if exact else []))}
    mutants = {f"{m.kernel.name}: {m.fault}": killed(m) for m in MUTANTS} if exact else {}
    print(json.dumps({"kernels": kernels, "mutants": mutants}))


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
