"""Run by the tests in a process of its own: `interpret DTYPE` judges the router kernels in Triton's interpreter, in
float32 also with one fault each; `compile DTYPE` compiles them for a GPU. Prints JSON."""

from __future__ import annotations

import json
import sys

import torch

from harness.parity.aot import compile_ahead
from models.common.kernels.sigmoid_router_cases import SIGMOID_ROUTER
from models.common.kernels.softmax_router_cases import SOFTMAX_ROUTER
from models.common.kernels.tests.layer_judge import Mutant, failed, killed

KERNELS = (SIGMOID_ROUTER, SOFTMAX_ROUTER)
LAST, MANY = "2 tokens, 8 of 160", "3 tokens, 8 of 32"
MUTANTS = (
    Mutant("correction ignored", SIGMOID_ROUTER, LAST, lambda i: {"correction": torch.zeros_like(i["correction"])}),
    Mutant("correction of other experts", SIGMOID_ROUTER, LAST, lambda i: {"correction": i["correction"].roll(1)}),
    Mutant("correction at half", SIGMOID_ROUTER, MANY, lambda i: {"correction": i["correction"] * 0.5}),
    Mutant("not scaled", SIGMOID_ROUTER, MANY, lambda i: {"scale": 1.0}),
    Mutant("scale off by 0.1 %", SIGMOID_ROUTER, MANY, lambda i: {"scale": i["scale"] * 1.001}),
    Mutant("experts in reverse", SIGMOID_ROUTER, "pairs of equal experts", lambda i: {"weight": i["weight"].flip(0)}),
    Mutant("one channel unread", SIGMOID_ROUTER, LAST, lambda i: {"x": i["x"] * last_cleared(i["x"])}),
    Mutant("tokens exchanged", SOFTMAX_ROUTER, MANY, lambda i: {"x": i["x"].flip(0)}),
    Mutant("one channel unread", SOFTMAX_ROUTER, "2 tokens, 8 of 128", lambda i: {"x": i["x"] * last_cleared(i["x"])}),
)


def last_cleared(x: torch.Tensor) -> torch.Tensor:
    kept = torch.ones_like(x)
    kept[:, -1] = 0
    return kept


def main(mode: str, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    if mode == "compile":
        print(json.dumps([built.label() for built in compile_ahead(KERNELS, dtype)]))
        return
    mutants = MUTANTS if dtype == torch.float32 else ()
    print(
        json.dumps(
            {
                "kernels": {kernel.name: failed(kernel, dtype) for kernel in KERNELS},
                "survivors": [f"{m.kernel.name}: {m.fault}" for m in mutants if not killed(m)],
                "mutants": len(mutants),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
