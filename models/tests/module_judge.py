"""Run by the tests in a process with Triton's interpreter: call every MODULE:NAME, which yields (comparison, error of a
fused module beside its eager one). Prints JSON: comparison -> error."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import torch
from torch import Tensor


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference in units of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def main(places: list[str]) -> None:
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    for place in places:
        module, _, name = place.partition(":")
        torch.manual_seed(0)
        found |= dict(getattr(import_module(module), name)())
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
