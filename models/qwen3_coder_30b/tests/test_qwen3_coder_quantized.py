"""Attention and the head in fewer bits, held against the reference with those weights; experts and routers are not
touched."""

from collections.abc import Callable

import pytest
from torch import nn

from harness.build.quantized_reference import saved_bytes
from models.qwen3_coder_30b import SPEC
from models.tests.weight_only import (
    NAMES,
    bytes_of_codes,
    judged,
    pair,
    place_of,
    planted,
    refused,
    rounded_matrices,
)

MATRICES = {f"model.layers.{i}.self_attn.{part}_proj.weight" for i in range(3) for part in "qkvo"} | {"lm_head.weight"}


@pytest.mark.parametrize("name", NAMES)
def test_native_builds_pass_every_level_and_leave_their_loss_unjudged(name: str) -> None:
    parity = judged(SPEC, name)
    assert refused(parity) == []
    assert parity.levels() == ("layer", "logits", "reference", "generation", "path")
    assert [(n.subject, n.reason) for n in parity.not_judged] == [(f"loss of {name}", "not judged: needs real weights")]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_rounds_the_matrices_that_the_build_rounds(name: str) -> None:
    hf, ours = pair(SPEC, name)
    matrices = rounded_matrices(SPEC, hf, name)
    assert matrices.keys() == MATRICES
    assert saved_bytes(SPEC, hf, (name,)) == sum(p.nbytes for p in matrices.values()) - bytes_of_codes(ours)


def one_scale(model: nn.Module) -> None:
    model.get_submodule("layers.1.attention.o_proj").scales[7, 2] *= 1.25


def one_zero_point(model: nn.Module) -> None:
    model.get_submodule("layers.2.attention.qkv.packed.whole").zeros[9, 1] += 1


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (one_scale, (1, "o projection")),
        (one_zero_point, (2, "q projection")),
    ],
)
def test_a_fault_is_found_where_it_is(fault: Callable[[nn.Module], None], place: tuple[int, str]) -> None:
    parity = judged(planted(SPEC, "linear_int4", fault), "linear_int4", recipe="random")
    assert not parity.passed
    assert place_of(parity) == place
