"""The tower on one image and on many, and a decode step behind images, each against the eager build, on this machine's
own device and the tiny size.

python -m pytest models/qwen3_vl_2b/benchmarks --benchmark-enable
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.build import builder, inputs
from harness.spec.optimization import Target
from models.qwen3_vl_2b import SPEC

GPU = torch.cuda.is_available()
TARGET = Target(torch.device("cuda" if GPU else "cpu"), torch.float32, "compiled" if GPU else "none")
SOURCE = builder.Source.of(SPEC, "tiny", 0, None)
PROMPT = 64
TOWER: tuple[str, ...] = ("rotary", "attention", "fused_layers") if GPU else ()


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return builder.reference(SPEC, SOURCE, TARGET.dtype, TARGET.device)


def model(reference: torch.nn.Module, stack: tuple[str, ...]) -> Any:
    return builder.candidate(builder.BuildConfig(SPEC, SOURCE, stack, TARGET), reference)[0]


@pytest.mark.parametrize("images", [[1], [3] * 8], ids=["one image", "24 images"])
@torch.no_grad()
def test_tower(judged, reference: torch.nn.Module, images: list[int]) -> None:
    shown = inputs.draw(SPEC, SOURCE.config, PROMPT, images, 0, "bench").to(TARGET.device, TARGET.dtype)

    def run(stack: tuple[str, ...]) -> Callable[[], Tensor]:
        built = model(reference, stack)
        return lambda: built.see(shown).embeddings

    judged(run(TOWER), run(()))


@pytest.mark.parametrize("stack", [("kv_cache",), ("kv_cache", "linear")], ids="+".join)
@torch.no_grad()
def test_decode_behind_images(judged, reference: torch.nn.Module, stack: tuple[str, ...]) -> None:
    shown = inputs.draw(SPEC, SOURCE.config, PROMPT, [2, 1], 0, "bench").to(TARGET.device, TARGET.dtype)

    def run(stack: tuple[str, ...]) -> Callable[[], Tensor]:
        built = model(reference, stack)
        cache = inputs.prepared(built, shown, PROMPT + 1)
        built(shown.tokens, cache)

        def step() -> Tensor:
            cache.rewind(PROMPT)
            return built.decode(shown.tokens[:, -1:], cache)

        return step

    judged(run(stack), run(()))
