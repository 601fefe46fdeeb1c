"""Run by the tests in a process of its own: `interpret DTYPE` judges the kernels of a vision tower in Triton's
interpreter, in float32 also with one fault each; `compile DTYPE` compiles them for a GPU. Prints JSON."""

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
from models.common.kernels.layer_norm import ADD_LAYER_NORM, LAYER_NORM
from models.common.kernels.rotate_pair import ROTATE_PAIR
from models.common.kernels.segment_attention import SegmentShape
from models.common.kernels.segment_attention import launch as attend
from models.common.kernels.segment_attention_cases import SEGMENT_ATTENTION

CPU = torch.device("cpu")
KERNELS = (LAYER_NORM, ADD_LAYER_NORM, ROTATE_PAIR, SEGMENT_ATTENTION)
Inputs = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """A kernel given other arguments than it was asked with; the judge must see it on the menu entry `case`."""

    name: str
    kernel: Kernel
    case: str
    change: Callable[[Inputs], Inputs]

    def seen(self) -> bool:
        def launch(**inputs: Any) -> Mapping[str, Tensor]:
            return self.kernel.launch(**{**inputs, **self.change(inputs)})

        def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
            return (case for case in self.kernel.menu(dtype, device, generator) if case.name == self.case)

        checks = check_kernel(replace(self.kernel, launch=launch, menu=menu), torch.float32, CPU, seed=1)
        return any(not check.passed for check in checks if self.case in check.name)


def moved(bounds: Tensor) -> Tensor:
    """The first inner bound one token later."""
    bounds = bounds.clone()
    bounds[1] += 1
    return bounds


FAULTS = (
    Fault("epsilon dropped", LAYER_NORM, "small", lambda i: {"eps": 0.0}),
    Fault("bias dropped", LAYER_NORM, "7x320 normal", lambda i: {"bias": torch.zeros_like(i["bias"])}),
    Fault("tail dropped", LAYER_NORM, "7x320 normal", lambda i: {"x": without_last(i["x"].t()).t().contiguous()}),
    Fault("residual not added", ADD_LAYER_NORM, "7x320 normal", lambda i: {"delta": torch.zeros_like(i["delta"])}),
    Fault("weight dropped", ADD_LAYER_NORM, "33x256 normal", lambda i: {"weight": torch.ones_like(i["weight"])}),
    Fault("rotated the other way", ROTATE_PAIR, "prime", lambda i: {"sin": -i["sin"]}),
    Fault("angles of the next token", ROTATE_PAIR, "prime", lambda i: {"cos": i["cos"].roll(-1, 0)}),
    Fault("angle halves exchanged", ROTATE_PAIR, "prime", lambda i: {"cos": i["cos"].roll(32, 1)}),
    Fault("scale off by 1 %", SEGMENT_ATTENTION, "three segments", lambda i: {"scale": i["scale"] * 1.01}),
    Fault("a bound off by one", SEGMENT_ATTENTION, "three segments", lambda i: {"bounds": moved(i["bounds"])}),
    Fault("one segment for all", SEGMENT_ATTENTION, "three segments", lambda i: {"bounds": i["bounds"][[0, -1]]}),
    Fault("keys of another head", SEGMENT_ATTENTION, "three segments", lambda i: {"k": i["k"].flip(1)}),
    Fault("last value unread", SEGMENT_ATTENTION, "whole blocks", lambda i: {"v": without_last(i["v"])}),
)


def without_last(x: Tensor) -> Tensor:
    x = x.clone()
    x[-1] = 0
    return x


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
    faults = {f"{fault.kernel.name}: {fault.name}": fault.seen() for fault in FAULTS} if single else {}
    print(json.dumps({"kernels": kernels, "faults": faults}))


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
