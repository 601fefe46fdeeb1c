"""The decode step and its projections, each against the eager build, on this machine's own device and the tiny size.

python -m pytest models/qwen3_4b_instruct_2507/benchmarks --benchmark-enable
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.build import builder
from harness.spec.optimization import Target
from models.qwen3_4b_instruct_2507 import SPEC
from models.tests.decode_step import repeated

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TARGET = Target(DEVICE, torch.float32, "compiled" if torch.cuda.is_available() else "none")


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return builder.reference(SPEC, builder.Source.of(SPEC, "tiny", 0, None), TARGET.dtype, DEVICE)


def step(reference: torch.nn.Module, stack: tuple[str, ...]) -> Callable[[], Tensor]:
    return repeated(
        builder.candidate(
            builder.BuildConfig(SPEC, builder.Source.of(SPEC, "tiny", 0, None), stack, TARGET), reference
        )[0],
        DEVICE,
    )


@pytest.mark.parametrize("stack", [(), ("kv_cache",), ("kv_cache", "linear"), ("kv_cache_paged",)], ids="+".join)
@torch.no_grad()
def test_decode_step(judged, reference: torch.nn.Module, stack: tuple[str, ...]) -> None:
    judged(step(reference, stack), step(reference, ()))


@torch.no_grad()
def test_packed_projections(judged, reference: torch.nn.Module) -> None:
    source = builder.Source.of(SPEC, "tiny", 0, None)
    packed, _ = builder.candidate(builder.BuildConfig(SPEC, source, ("linear",), TARGET), reference)
    split, _ = builder.candidate(builder.BuildConfig(SPEC, source, (), TARGET), reference)
    x = torch.randn(64, 1, 320, generator=torch.Generator().manual_seed(1)).to(DEVICE)

    def run(model: torch.nn.Module) -> Callable[[], Tensor]:
        return lambda: torch.cat([part.flatten(2) for part in model.layers[0].attention.qkv(x)], dim=-1)

    judged(run(packed), run(split))
