"""Kernels and optimizations that cheat, each refused by the gate that right ones pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.build import builder, registry
from harness.parity.kernels.kernel_checks import check_kernel
from harness.parity.kernels.launch_counts import watched
from harness.parity.parity_run import ParityRun
from harness.records.checks import KERNELS_IN_PLACE
from harness.records.proof_size import ProofSize
from harness.spec.kernel import Cost, Kernel, OpCase
from harness.spec.optimization import Receipt, Target

CPU = torch.device("cpu")
Launch = Callable[[Tensor], dict[str, Tensor]]


def doubled(x: Tensor) -> dict[str, Tensor]:
    return {"y": x * 2.3}


def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    rows = int(torch.randint(5, 5000, (1,), generator=generator, device=device))
    for shape in ((4, 33), (rows, 8)):
        yield OpCase(f"{shape}", {"x": torch.randn(shape, generator=generator, device=device).to(dtype)})


def failures(launch: Launch, seed: int = 1, device: torch.device = CPU) -> set[str]:
    kernel = Kernel("cheat", launch, doubled, menu, lambda **_: Cost(0, 0), lambda _: ())
    return {check.rule for check in check_kernel(kernel, torch.float32, device, seed) if not check.passed}


def cached() -> Launch:
    kept: dict[torch.Size, Tensor] = {}
    return lambda x: {"y": kept.setdefault(x.shape, x * 2.3).clone()}


def freed() -> Launch:
    """Leaves the answer to whoever computed it before in the same memory."""
    return lambda x: {"y": torch.empty_like(x)}


def mutating() -> Launch:
    return lambda x: {"y": x.mul_(2.3).clone()}


def special_case() -> Launch:
    """Knows the shapes of the menu as it was drawn when the kernel was written."""
    known = {case.inputs["x"].shape for case in menu(torch.float32, CPU, torch.Generator().manual_seed(0))}
    return lambda x: {"y": x * 2.3 if x.shape in known else x.clone()}


def downgraded() -> Launch:
    return lambda x: {"y": (x.half() * 2.3).float()}


def zeros() -> Launch:
    return lambda x: {"y": torch.zeros_like(x)}


CHEATS = {
    cached: "rms",
    freed: "mask",
    mutating: "inputs",
    special_case: "rms",
    downgraded: "rms",
    zeros: "rms",
}


def test_the_honest_kernel_passes() -> None:
    assert failures(lambda x: {"y": x * 2.3}) == set()


@pytest.mark.parametrize(("cheat", "rule"), CHEATS.items(), ids=[cheat.__name__ for cheat in CHEATS])
def test_a_cheating_kernel_is_refused(cheat: Callable[[], Launch], rule: str) -> None:
    assert rule in failures(cheat())


def test_the_shapes_of_the_menu_follow_from_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.parity.kernels import kernel_checks as op

    spec = registry.load("qwen3_4b_instruct_2507")
    before = op.seed_after_code(spec, 0)
    assert before == op.seed_after_code(spec, 0) != op.seed_after_code(spec, 1)
    monkeypatch.setattr(op, "kernel_sources", lambda _: "other sources")
    assert op.seed_after_code(spec, 0) != before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="streams need a CUDA device")
def test_work_left_on_a_side_stream_is_refused() -> None:
    side = torch.cuda.Stream()

    def launch(x: Tensor) -> dict[str, Tensor]:
        y = torch.zeros_like(x)
        with torch.cuda.stream(side):
            torch.cuda._sleep(200_000_000)
            y.copy_(x * 2.3)
        return {"y": y}

    assert failures(launch, device=torch.device("cuda"))


class Idle(nn.Module):
    """Holds a fast module beside the right one and never calls it."""

    def __init__(self, right: nn.Module) -> None:
        super().__init__()
        self.right, self.fast = right, nn.Identity()

    def forward(self, *args: Any) -> Any:
        return self.right(*args)


def never_called(model: Any, target: Target) -> Receipt:
    for layer in model.layers:
        layer.mlp = Idle(layer.mlp)
    return Receipt("linear", tuple(f"layers.{index}.mlp.fast" for index in range(len(model.layers))))


@torch.no_grad()
def test_an_optimization_whose_modules_never_run_is_refused() -> None:
    spec = registry.load("qwen3_4b_instruct_2507")
    items = tuple(replace(i, apply=never_called) if i.name == "linear" else i for i in spec.menu.items)
    cheat = replace(spec, menu=replace(spec.menu, items=items))
    source = builder.Source.of(spec, "tiny", 0, None)
    run = ParityRun(
        builder.BuildConfig(cheat, source, ("linear",), Target(CPU, torch.float32, "none")), ProofSize(2, 12, 20)
    )
    failed = [check for level in run.in_target() for check in level if not check.passed]
    idle = source.config["num_hidden_layers"]
    assert [(check.rule, check.subject, check.error) for check in failed] == [("never ran", "swapped modules", idle)]
    assert failed[0].where.startswith("layers.0.mlp.fast (linear)")


class Launched:
    """Stands for a Triton function."""

    def __init__(self) -> None:
        self.pre_run_hooks: list[Callable[..., None]] = []

    def add_pre_run_hook(self, hook: Callable[..., None]) -> None:
        self.pre_run_hooks.append(hook)

    def run(self) -> None:
        for hook in self.pre_run_hooks:
            hook()


@pytest.mark.parametrize("called", [True, False])
def test_a_declared_kernel_that_is_never_launched_is_refused(called: bool) -> None:
    from harness.spec.kernel import Compilation

    function = Launched()
    kernel = Kernel(
        "declared", doubled, doubled, menu, lambda **_: Cost(0, 0), lambda _: (Compilation(function, {}, {}),)
    )
    with watched(nn.Identity(), (), {"declared": (kernel,)}, torch.float32) as ran:
        if called:
            function.run()
    (check,) = ran.checks()
    assert check.passed is called
    assert function.pre_run_hooks == []


@pytest.mark.parametrize("called", [True, False])
def test_a_library_function_has_run_when_a_module_of_its_optimization_did(called: bool) -> None:
    kernel = Kernel("library", doubled, doubled, menu, lambda **_: Cost(0, 0), lambda _: ())
    model = nn.Sequential(nn.Identity(), nn.Identity())
    receipts = (Receipt("ours", ("0",)), Receipt("another", ("1",)))
    with watched(model, receipts, {"ours": (kernel,)}, torch.float32) as ran:
        model[1](torch.ones(1))
        if called:
            model[0](torch.ones(1))
    kernels = next(check for check in ran.checks() if check.subject == KERNELS_IN_PLACE)
    assert kernels.passed is called


@pytest.mark.parametrize("called", [True, False])
def test_a_declared_kernel_that_is_not_written_in_triton_is_watched_too(called: bool) -> None:
    launched = [None] * 3
    kernel = Kernel(
        "declared",
        doubled,
        doubled,
        menu,
        lambda **_: Cost(0, 0),
        lambda _: (),
        dtypes=(torch.float16,),
        launches=lambda: len(launched),
    )
    with watched(nn.Identity(), (), {"declared": (kernel,)}, torch.float16) as ran:
        launched += [None] * called
    (check,) = ran.checks()
    assert check.passed is called
    with watched(nn.Identity(), (), {"declared": (kernel,)}, torch.float32) as ran:
        pass
    assert ran.checks() == [], "a kernel has nothing to do in a dtype that it does not compute"
