"""Weight-only builds are held against the reference with their rounded weights; what rounding costs is said apart."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from harness.build.quantized_reference import rounded, saved_bytes
from harness.parity.reference.reference_model import ReferenceModel
from harness.spec.model_inputs import ModelInputs
from models.common.quantization.quantized_linear import CHUNK_BYTES
from models.qwen3_4b_instruct_2507 import SPEC
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
    *(f"model.layers.{i}.self_attn.{part}_proj.weight" for i in range(3) for part in "qkvo"),
    *(f"model.layers.{i}.mlp.{part}_proj.weight" for i in range(3) for part in ("gate", "up", "down")),
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


def halves_exchanged(model: nn.Module) -> None:
    codes = model.get_submodule("layers.0.attention.o_proj").codes
    codes.copy_(codes >> 4 | codes << 4)


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (one_scale, (1, "down projection")),
        (one_zero_point, (2, "q projection")),
        (halves_exchanged, (0, "o projection")),
    ],
)
def test_a_fault_is_found_where_it_is(fault: Callable[[nn.Module], None], place: tuple[int, str]) -> None:
    parity = judged(planted(SPEC, "linear_int4", fault), "linear_int4", recipe="random")
    assert not parity.passed
    assert place_of(parity) == place


@pytest.mark.parametrize("name", NAMES)
def test_the_rounded_reference_leaves_the_plain_one_alone_and_unties_its_head(name: str) -> None:
    hf, _ = pair(SPEC, name)
    before = {key: value.clone() for key, value in hf.named_parameters(remove_duplicate=False)}
    made = dict(rounded(SPEC, hf, (name,)).named_parameters(remove_duplicate=False))
    assert all(torch.equal(value, before[key]) for key, value in hf.named_parameters(remove_duplicate=False))
    assert not torch.equal(made["lm_head.weight"], made["model.embed_tokens.weight"])
    assert rounded(SPEC, hf, ("kv_cache",)) is hf


@torch.no_grad()
def test_many_rows_in_parts_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hf, ours = pair(SPEC, "linear_int4")
    tokens = torch.arange(20).view(2, 10)
    whole = ours(tokens, ours.new_cache(2, 10))
    monkeypatch.setitem(CHUNK_BYTES, "cpu", 1 << 15)
    assert torch.allclose(ours(tokens, ours.new_cache(2, 10)), whole, atol=0.02)
    assert torch.allclose(
        whole, ReferenceModel(rounded(SPEC, hf, ("linear_int4",))).logits(ModelInputs(tokens)), atol=0.1
    )
