"""Run by the tests in a process with Triton's interpreter: the tower with its kernels beside the eager one. Prints
JSON: how many modules of the tower each optimization replaced, and the relative error of every feature."""

from __future__ import annotations

import json

import torch

from harness.build import builder, inputs
from harness.spec.optimization import Target
from models.qwen3_vl_2b import SPEC

CPU = torch.device("cpu")
STACK = ("rotary", "attention", "fused_layers")


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    source = builder.Source.of(SPEC, "tiny", seed=1, weights=None)
    hf = builder.reference(SPEC, source, torch.float32, CPU)
    target = Target(CPU, torch.float32, "interpreted")
    eager, _ = builder.candidate(builder.BuildConfig(SPEC, source, (), target), hf)
    fused, receipts = builder.candidate(builder.BuildConfig(SPEC, source, STACK, target), hf)
    prompt = inputs.draw(SPEC, source.config, 48, [2, 1], 0, "tower")
    theirs, ours = eager.see(prompt), fused.see(prompt)
    pairs = zip((ours.embeddings, *ours.deep), (theirs.embeddings, *theirs.deep), strict=True)
    errors = {f"feature {i}": float((o - t).norm() / t.norm()) for i, (o, t) in enumerate(pairs)}
    swapped = {r.optimization: sum(path.startswith("tower.") for path in r.touched) for r in receipts}
    print(json.dumps({"swapped": swapped, "errors": errors}))


if __name__ == "__main__":
    main()
