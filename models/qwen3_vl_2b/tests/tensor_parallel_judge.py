"""Prints how far two processes' logits, of a prompt with images and a decode step behind it, are from one's."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from harness import build, inputs
from harness.parity.rules import relative_frobenius
from harness.ranks import Rank, join, leave
from harness.spec import Target
from models.qwen3_vl_2b import SPEC

SOURCE = build.Source.of(SPEC, "tiny", seed=5, weights=None)
ONE = Target(torch.device("cpu"), torch.float32, "none")
STACK = ("kv_cache", "linear")
WORLD = 2


def logits(stack: tuple[str, ...], target: Target) -> Tensor:
    hf = build.reference(SPEC, SOURCE, target.dtype, target.device)
    model, _ = build.candidate(SPEC, SOURCE, hf, stack, target)
    shown = inputs.draw(SPEC, SOURCE.config, 24, [2, 1], 0, "ranks")
    cache = inputs.prepared(model, shown, 25)
    return torch.cat((model(shown.tokens, cache), model.decode(shown.tokens[:, :1], cache).unsqueeze(1)), 1)


@torch.no_grad()
def run(rank: int, meeting: Path, out: Path) -> None:
    torch.set_num_threads(1)
    join(Rank(rank, WORLD, meeting), ONE.device, deadline_s=120)
    ours = logits(("tensor_parallel", *STACK), replace(ONE, rank=rank, world=WORLD))
    first = ours.clone()
    dist.broadcast(first, 0)
    alike = torch.tensor(torch.equal(first, ours))
    dist.all_reduce(alike, dist.ReduceOp.MIN)
    leave()
    if rank == 0:
        out.write_text(json.dumps({"alike": bool(alike), "error": relative_frobenius(ours, logits(STACK, ONE))}))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "found.json"
        torch.multiprocessing.spawn(run, (Path(scratch) / "meeting", out), nprocs=WORLD)
        print(out.read_text())


if __name__ == "__main__":
    main()
