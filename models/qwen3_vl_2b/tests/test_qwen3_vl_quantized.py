"""The language model in fewer bits, held against the reference with those weights; the tower and the mergers are not
touched."""

from collections.abc import Callable

import pytest
from torch import nn

from harness.build.quantized_reference import saved_bytes
from models.qwen3_vl_2b import SPEC
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

MATRICES = {
    *(f"model.language_model.layers.{i}.self_attn.{part}_proj.weight" for i in range(4) for part in "qkvo"),
    *(f"model.language_model.layers.{i}.mlp.{part}_proj.weight" for i in range(4) for part in ("gate", "up", "down")),
    "lm_head.weight",
}


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
    model.get_submodule("layers.1.mlp.down_proj").scales[7, 2] *= 1.25


def one_zero_point(model: nn.Module) -> None:
    model.get_submodule("layers.2.attention.qkv.packed.whole").zeros[9, 1] += 1


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (one_scale, (1, "down projection")),
        (one_zero_point, (2, "q projection")),
    ],
)
def test_a_fault_is_found_where_it_is(fault: Callable[[nn.Module], None], place: tuple[int, str]) -> None:
    parity = judged(planted(SPEC, "linear_int4", fault), "linear_int4", recipe="random")
    assert not parity.passed
    assert place_of(parity) == place


@pytest.mark.parametrize("name", NAMES)
def test_what_sees_keeps_its_weights_and_a_tied_head_becomes_its_own(name: str) -> None:
    hf, ours = pair(SPEC, name)
    seen = {key: value for key, value in ours.named_parameters() if key.startswith("tower.")}
    plain = {SPEC.rename(key): value for key, value in hf.named_parameters() if ".visual." in key}
    assert seen.keys() == plain.keys()
    assert all(value.data_ptr() == plain[key].data_ptr() for key, value in seen.items())
    assert hf.lm_head.weight is hf.model.language_model.embed_tokens.weight
    assert ours.embed.weight.data_ptr() == hf.lm_head.weight.data_ptr()
