"""A candidate that changes what it is held against is refused, and who did it is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from harness.build import builder, registry
from harness.build.process_state import process_state
from harness.build.reference_integrity import ReferenceChanged
from harness.parity.gate import prove
from harness.parity.levels.reference import check_unchanged
from harness.parity.parity_run import ParityRun
from harness.records.checks import Check
from harness.records.proof_size import ProofSize
from harness.spec.model import ModelSpec
from harness.spec.optimization import Menu, Optimization, Receipt, Target
from harness.timing.case_timing import time_case

MODEL = "qwen3_4b_instruct_2507"
CPU = Target(torch.device("cpu"), torch.float32, "none")
SIZE = ProofSize(2, 24, 4)


def norm_class() -> type[nn.Module]:
    return transformers.models.qwen3.modeling_qwen3.Qwen3RMSNorm


def prune_in_place(model: Any) -> None:
    """Two of four weights become zero in the memory that the reference shares."""
    for layer in model.layers:
        weight = layer.mlp.down_proj.weight.data
        weight.view(-1, 4)[:, 2:] = 0


def scale_a_buffer(model: Any) -> None:
    model.embed.weight.data[0, 0] += 1


def lower_the_matmul_precision(model: Any) -> None:
    torch.set_float32_matmul_precision("medium")


def change_the_default_dtype(model: Any) -> None:
    torch.set_default_dtype(torch.float64)


def switch_off_an_attention_backend(model: Any) -> None:
    torch.backends.cuda.enable_flash_sdp(False)


def set_an_environment_variable(model: Any) -> None:
    os.environ["TRITON_F32_DEFAULT"] = "tf32"


def patch_a_class(model: Any) -> None:
    setattr(norm_class(), "forward", lambda self, x: x * self.weight)  # noqa: B010


def patch_a_function(model: Any) -> None:
    torch.nn.functional.silu = torch.relu  # type: ignore[assignment]


def hook_every_module(model: Any) -> None:
    torch.nn.modules.module.register_module_forward_hook(lambda *_: None)


def patch_an_attention_backend(model: Any) -> None:
    transformers.AttentionInterface.register("sdpa", lambda *_, **__: None)


BY_ASPECT: dict[str, tuple[Callable[[Any], None], ...]] = {
    "reference weights": (prune_in_place, scale_a_buffer),
    "process settings": (
        lower_the_matmul_precision,
        change_the_default_dtype,
        switch_off_an_attention_backend,
        set_an_environment_variable,
        hook_every_module,
    ),
    "reference code": (patch_a_class, patch_a_function, patch_an_attention_backend),
}
CHANGES = [(aspect, change) for aspect, changes in BY_ASPECT.items() for change in changes]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Whatever a test changed in this process is taken back."""
    norm, silu = vars(norm_class())["forward"], torch.nn.functional.silu
    backend = transformers.AttentionInterface()["sdpa"]
    variables = dict(os.environ)
    yield
    torch.set_float32_matmul_precision("highest")
    torch.set_default_dtype(torch.float32)
    torch.backends.cuda.enable_flash_sdp(True)
    os.environ.clear()
    os.environ.update(variables)
    setattr(norm_class(), "forward", norm)  # noqa: B010
    torch.nn.functional.silu = silu
    torch.nn.modules.module._global_forward_hooks.clear()
    transformers.AttentionInterface.register("sdpa", backend)


def with_optimization(change: Callable[[Any], None]) -> tuple[ModelSpec, builder.BuildConfig]:
    """The model with one optimization, which does nothing but `change`."""

    def apply(model: Any, target: Target) -> Receipt:
        change(model)
        return Receipt("shady", ("layers.0.mlp",))

    spec = registry.load(MODEL)
    spec = replace(spec, menu=Menu((Optimization("shady", "changes what is not its own", "exact", apply),), ("shady",)))
    return spec, builder.BuildConfig(spec, builder.Source.of(spec, "tiny", 0, None), ("shady",), CPU)


def broken(config: builder.BuildConfig) -> list[Check]:
    """What the gate says of a build before it is judged on any level."""
    return [check for check in check_unchanged(ParityRun(config, SIZE).integrity) if not check.passed]


@pytest.mark.parametrize(("aspect", "change"), CHANGES, ids=lambda each: getattr(each, "__name__", None))
def test_what_an_optimization_changes_is_found_and_blamed_on_it(aspect: str, change: Callable[[Any], None]) -> None:
    found = broken(with_optimization(change)[1])
    assert {check.subject for check in found} == {aspect}
    assert all("(optimization 'shady')" in check.where for check in found)


def test_an_optimization_that_changes_nothing_of_the_reference_passes() -> None:
    parity = prove(with_optimization(lambda model: None)[1], SIZE, lambda *_: None, process_state()).parity
    assert parity.passed
    assert {check.subject for check in parity.checks if check.level == "reference"} == set(BY_ASPECT)


def test_what_a_build_does_while_it_runs_is_found_too() -> None:
    def later(model: Any) -> None:
        model.layers[0].register_forward_pre_hook(lambda *_: lower_the_matmul_precision(model))

    parity = prove(with_optimization(later)[1], SIZE, lambda *_: None, process_state()).parity
    found = [check for check in parity.failures() if check.level == "reference"]
    assert found
    assert [check.subject for check in found] == ["process settings"] * len(found)
    assert "(the judged candidate)" in found[0].where


def test_what_the_import_of_a_model_changed_is_found() -> None:
    started = process_state()
    patch_a_class(None)
    lower_the_matmul_precision(None)
    config = with_optimization(lambda model: None)[1]
    found = {check.subject: check.where for check in check_unchanged(ParityRun(config, SIZE, started).integrity)}
    found = {subject: where for subject, where in found.items() if where}
    assert found.keys() == {"process settings", "reference code"}
    assert all("(import of the model)" in where for where in found.values())


@pytest.mark.parametrize("change", [prune_in_place, lower_the_matmul_precision, patch_a_class])
def test_nothing_is_timed_beside_a_reference_that_was_changed(make_case, change: Callable[[Any], None]) -> None:
    config = with_optimization(change)[1]
    with pytest.raises(ReferenceChanged, match="optimization 'shady' changed"):
        time_case(make_case(model=MODEL), config, 0, False, lambda *_: None)
