"""Prints, for worlds of 1, 2 and 4 processes, how far their logits are from those of the same build uncut, and whether
all ranks agree. A model that sees is shown images.

python tensor_parallel_judge.py MODEL
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from harness.build import builder, inputs, registry
from harness.build.ranks import Rank, join, leave
from harness.parity.tolerance.rules import relative_frobenius
from harness.spec.model import ModelSpec
from harness.spec.optimization import Target

STACK = ("kv_cache", "prefix_caching", "linear")
ONE = Target(torch.device("cpu"), torch.float32, "none")
WORLDS = (4, 2, 1)


def logits(
    spec: ModelSpec, source: builder.Source, stack: tuple[str, ...], target: Target
) -> tuple[Tensor, dict[str, list[int]]]:
    """Of a prompt, a decode step, and the prompt once more without and with a prefix to find; and the shapes of what is
    held: the first layer's parameters, the last layer's, and its keys."""
    hf = builder.reference(spec, replace(source, directory=None), target.dtype, target.device)
    model, _ = builder.candidate(builder.BuildConfig(spec, source, stack, target), hf)
    prompt = inputs.draw(spec, source.config, 20, [2, 1], 0, "ranks")
    cache = inputs.prepared(model, prompt, 24)
    parts = [model(prompt.tokens, cache), model.decode(prompt.tokens[:, :1], cache).unsqueeze(1)]
    for found in (0, 19):
        shared, matched = inputs.reopened(model, model.prefixes, prompt, 24)
        assert matched == found
        parts.append(model(prompt.tokens[:, matched:], shared, keep=1))
        model.prefixes.close(shared)
    layers = {"first": model.layers[0], "last": model.layers[-1]}
    held = {f"{key}.{name}": [*p.shape] for key, layer in layers.items() for name, p in layer.named_parameters()}
    return torch.cat(parts, 1), {**held, "keys": [*cache.layers[-1].keys.shape]}


def run(rank: int, scratch: Path, name: str) -> None:
    """Four processes are a world; then the first two of them are another, and the first one is."""
    for world in WORLDS:
        if rank < world:
            judge(rank, world, scratch, name)


@torch.no_grad()
def judge(rank: int, world: int, scratch: Path, name: str) -> None:
    spec = registry.load(name)
    random = builder.Source.of(spec, "tiny", seed=5, weights=None)
    stored = builder.Source.of(spec, "tiny", seed=5, weights=str(scratch / "checkpoint"))
    join(Rank(rank, world, scratch / f"meeting-{world}"), ONE.device, deadline_s=120)
    target = replace(ONE, rank=rank, world=world)
    found = {}
    for weights, source in (("random", random), ("checkpoint", stored)):
        ours, held = logits(spec, source, ("tensor_parallel", *STACK), target)
        first = ours.clone()
        dist.broadcast(first, 0)
        alike = torch.tensor(torch.equal(first, ours))
        dist.all_reduce(alike, dist.ReduceOp.MIN)
        found[weights] = {"alike": bool(alike), "held": held}
        if rank == 0:
            found[weights]["error"] = relative_frobenius(ours, logits(spec, source, STACK, ONE)[0])
    leave()
    if rank == 0:
        (scratch / f"{world}.json").write_text(json.dumps(found))


def save(name: str, checkpoint: Path) -> None:
    spec = registry.load(name)
    source = builder.Source.of(spec, "tiny", seed=6, weights=None)
    builder.reference(spec, source, ONE.dtype, ONE.device).save_pretrained(checkpoint)


def main() -> None:
    # Ranks are forks, which import nothing again; threads of this process would be missing in them.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        name, scratch = sys.argv[1], Path(folder)
        save(name, scratch / "checkpoint")
        torch.multiprocessing.start_processes(run, (scratch, name), nprocs=max(WORLDS), start_method="fork")
        print(json.dumps({world: json.loads((scratch / f"{world}.json").read_text()) for world in WORLDS}))


if __name__ == "__main__":
    main()
