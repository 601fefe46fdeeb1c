"""The decode step and a feed-forward block, each against the eager build, on this machine's own device and the tiny
size.

python -m pytest models/qwen3_coder_30b/benchmarks --benchmark-enable
"""

import pytest
import torch

from harness.build import builder
from harness.spec.optimization import Target
from models.qwen3_coder_30b import SPEC
from models.tests.decode_step import repeated

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TARGET = Target(DEVICE, torch.float32, "compiled" if torch.cuda.is_available() else "none")
NATIVE = [(), ("kv_cache",), ("kv_cache", "linear"), ("kv_cache_paged",)]
KERNELS = [("experts",), ("kv_cache", "linear", "rotary", "attention", "experts", "fused_layers")]
STACKS = NATIVE + (KERNELS if TARGET.kernels == "compiled" else [])


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return builder.reference(SPEC, builder.Source.of(SPEC, "tiny", 0, None), TARGET.dtype, DEVICE)


def made(reference: torch.nn.Module, stack: tuple[str, ...]) -> torch.nn.Module:
    return builder.candidate(
        builder.BuildConfig(SPEC, builder.Source.of(SPEC, "tiny", 0, None), stack, TARGET), reference
    )[0]


@pytest.mark.parametrize("stack", STACKS, ids="+".join)
@torch.no_grad()
def test_decode_step(judged, reference: torch.nn.Module, stack: tuple[str, ...]) -> None:
    judged(repeated(made(reference, stack), DEVICE), repeated(made(reference, ()), DEVICE))


@pytest.mark.skipif(TARGET.kernels == "none", reason="the kernels of experts have no speed without a GPU")
@pytest.mark.parametrize("tokens", [1, 8])
@torch.no_grad()
def test_experts(judged, reference: torch.nn.Module, tokens: int) -> None:
    x = torch.randn(tokens, 1, 256, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    changed, eager = (made(reference, stack).layers[0].mlp for stack in (("experts",), ()))
    judged(lambda: changed(x), lambda: eager(x))
