"""Run by the tests in a process of its own: `MODEL interpret|compile` holds `full`, as far as this process can run it,
against Hugging Face at the tiny size, with its kernels. Prints JSON: the stack, the levels judged, the checks that
failed, and the kernels that were launched."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from itertools import chain

import torch

from harness.build import registry
from harness.build.builder import BuildConfig, Source
from harness.parity.kernels.launch_counts import watched
from harness.parity.parity_run import ParityRun
from harness.planning.stack import resolve
from harness.records.checks import Check
from harness.records.proof_size import ProofSize
from harness.spec.model import ModelSpec
from harness.spec.optimization import Target

INTERPRETED = Target(torch.device("cpu"), torch.float32, "interpreted")
FEW, MANY = ProofSize(batch=2, prompt_tokens=9), ProofSize(batch=2, prompt_tokens=64, new_tokens=16)
"""18 rows: past the 16 of the decode products, so that every kernel has its turn; an interpreter takes its time."""


def compiled() -> Target:
    return Target(torch.device("cuda", 0), torch.bfloat16, "compiled")


def capabilities(target: Target) -> set[str]:
    """What the target offers, in the words of `Optimization.needs`."""
    if target.kernels == "interpreted":
        return {"triton"}
    hopper = torch.cuda.get_device_capability(target.device) >= (9, 0)
    nvcc = shutil.which("nvcc") is not None
    return {"triton", "cuda", *(["clusters"] if hopper else []), *(["nvcc"] if nvcc else [])}


def checks(spec: ModelSpec, stack: tuple[str, ...], target: Target, launched: set[str]) -> Iterator[Check]:
    """The float32 maths and, on a GPU, everything in the target's dtype."""
    source = Source.of(spec, "tiny", 3, None)
    config = BuildConfig(spec, source, stack, target)
    single = ParityRun.fp32(config, FEW if target.kernels == "interpreted" else MANY)
    with watched(
        single.model, single.receipts, {name: spec.menu[name].kernels for name in stack}, torch.float32
    ) as ran:
        yield from chain.from_iterable(single.in_fp32())
        launched |= {name for name, launches in ran.kernels.items() if launches()}
    if target.kernels == "compiled":
        yield from chain.from_iterable(ParityRun(config, MANY).in_target())


@torch.no_grad()
def main(model: str, mode: str) -> None:
    torch.set_num_threads(1)
    target = INTERPRETED if mode == "interpret" else compiled()
    spec, launched = registry.load(model), set[str]()
    stack = resolve(model, spec.menu, ("full",), capabilities(target)).names
    found = list(checks(spec, stack, target, launched))
    said = {
        "stack": stack,
        "levels": sorted({check.level for check in found}),
        "failed": [repr(check) for check in found if not check.passed],
        "launched": sorted(launched),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
