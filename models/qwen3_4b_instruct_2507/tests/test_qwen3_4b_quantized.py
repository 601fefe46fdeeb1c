"""Weight-only builds are held against the reference with their rounded weights; what rounding costs is said apart."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harness import build
from harness.parity.gate import Extent, Proof, prove
from harness.parity.plain import Plain
from harness.rounding import rounded, saved_bytes
from harness.spec import Menu, ModelInputs, ModelSpec, Receipt, Target
from models.common.quantized_linear import QuantizedLinear
from models.qwen3_4b_instruct_2507 import SPEC

CPU = torch.device("cpu")
TARGET = Target(CPU, torch.bfloat16, "none")
SOURCE = build.Source.of(SPEC, "tiny", seed=3, weights=None)
NAMES = ("linear_int8", "linear_fp8", "linear_int4")


def proof(name: str, spec: ModelSpec = SPEC, source: build.Source = SOURCE) -> Proof:
    return prove(spec, source, (name,), TARGET, Extent(2, 16, 20), lambda _, __: None)


@pytest.mark.parametrize("name", NAMES)
def test_native_builds_pass_every_level_and_leave_their_loss_unjudged(name: str) -> None:
    parity = proof(name).parity
    assert [f"{c.subject} {c.name} {c.rule}: {c.error:.3g} > {c.limit:.3g}" for c in parity.failures()] == []
    assert parity.levels() == ("layer", "logits", "generation", "path")
    assert [(n.subject, n.reason) for n in parity.not_judged] == [(f"loss of {name}", "not judged: needs real weights")]


def planted(name: str, fault: Callable[[nn.Module], None]) -> ModelSpec:
    """The model with a fault in what `name` builds."""
    right = SPEC.menu[name]

    def apply(model: nn.Module, target: Target) -> Receipt:
        receipt = right.apply(model, target)
        fault(model)
        return receipt

    items = tuple(replace(right, apply=apply) if item is right else item for item in SPEC.menu.items)
    return replace(SPEC, menu=Menu(items, SPEC.menu.full))


def one_scale(model: nn.Module) -> None:
    model.get_submodule("layers.1.mlp.down_proj").scales[7, 2] *= 1.25


def one_zero_point(model: nn.Module) -> None:
    model.get_submodule("layers.2.attention.qkv.packed.whole").zeros[9, 1] += 1


def halves_exchanged(model: nn.Module) -> None:
    codes = model.get_submodule("layers.0.attention.o_proj").codes
    codes.copy_(codes >> 4 | codes << 4)


@pytest.mark.parametrize(
    ("fault", "layer", "op"),
    [
        (one_scale, 1, "down projection"),
        (one_zero_point, 2, "q projection"),
        (halves_exchanged, 0, "o projection"),
    ],
)
def test_a_wrong_code_scale_or_zero_point_is_found_where_it_is(
    fault: Callable[[nn.Module], None], layer: int, op: str
) -> None:
    parity = proof("linear_int4", planted("linear_int4", fault)).parity
    assert not parity.passed
    assert parity.first_divergence is not None
    assert (parity.first_divergence.layer, parity.first_divergence.op) == (layer, op)


@pytest.mark.parametrize("name", NAMES)
def test_the_rounded_reference_shares_all_but_the_matrices_and_unties_its_head(name: str) -> None:
    hf = build.reference(SPEC, SOURCE, torch.bfloat16, CPU)
    before = {key: value.clone() for key, value in hf.named_parameters(remove_duplicate=False)}
    made = dict(rounded(SPEC, hf, (name,)).named_parameters(remove_duplicate=False))
    own = {key for key, value in hf.named_parameters(remove_duplicate=False) if made[key] is not value}
    assert own == {key for key in made if key.endswith("_proj.weight") or key == "lm_head.weight"}
    assert all(torch.equal(value, before[key]) for key, value in hf.named_parameters(remove_duplicate=False))
    assert not torch.equal(made["lm_head.weight"], made["model.embed_tokens.weight"])
    assert rounded(SPEC, hf, ("kv_cache",)) is hf


@pytest.mark.parametrize("name", NAMES)
def test_saved_bytes_are_those_that_the_build_no_longer_holds(name: str) -> None:
    hf = build.reference(SPEC, SOURCE, torch.bfloat16, CPU)
    ours, _ = build.candidate(SPEC, SOURCE, hf, (name,), TARGET)
    held = sum(b.nbytes for m in ours.modules() if isinstance(m, QuantizedLinear) for b in m.buffers())
    matrices = [
        p for k, p in hf.named_parameters(remove_duplicate=False) if k.endswith(("_proj.weight", "lm_head.weight"))
    ]
    assert saved_bytes(SPEC, hf, (name,)) == sum(p.nbytes for p in matrices) - held


@torch.no_grad()
def test_many_rows_in_parts_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hf = build.reference(SPEC, SOURCE, torch.bfloat16, CPU)
    ours, _ = build.candidate(SPEC, SOURCE, hf, ("linear_int4",), TARGET)
    tokens = torch.arange(20).view(2, 10)
    whole = ours(tokens, ours.new_cache(2, 10))
    monkeypatch.setattr("models.common.quantized_linear.CHUNK_BYTES", 1 << 15)
    assert torch.allclose(ours(tokens, ours.new_cache(2, 10)), whole, atol=0.02)
    assert torch.allclose(whole, Plain(rounded(SPEC, hf, ("linear_int4",))).logits(ModelInputs(tokens)), atol=0.1)


def test_a_checkpoints_loss_is_judged(tmp_path: Path) -> None:
    build.reference(SPEC, SOURCE, torch.bfloat16, CPU).save_pretrained(tmp_path)
    source = build.Source.of(SPEC, "full", seed=0, weights=str(tmp_path))
    parity = proof("linear_int8", source=source).parity
    loss = [check for check in parity.checks if check.subject == "loss of linear_int8"]
    assert [(check.rule, check.limit) for check in loss] == [("mean KL", 1e-3), ("top-1", 0.01)]
    assert all(0 < check.error < 1 for check in loss)
    assert parity.not_judged == ()
    assert {check.subject for check in parity.failures()} <= {"loss of linear_int8"}
