"""Every kernel that a model offers has faults enough, and those that need a reason to be seen are seen on its menu."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.build import registry
from harness.faults.catalog import every
from harness.faults.first_seen import first_seen
from harness.parity.kernels.kernel_checks import judged_cases
from harness.spec.kernel import Kernel

CPU = torch.device("cpu")
OFFERED = {
    kernel.name: kernel
    for model in registry.names()
    for item in registry.load(model).menu.items
    for kernel in item.kernels
}
ADDS_NOTHING = {"swiglu", "rotate_pair", "rotate_write"}
SUBTLE = (
    "sums kept in a lower type",
    "sums not rescaled",
    "epsilon outside the root",
    "rounded otherwise in company",
)
BELOW_THE_NOISE = (
    "partial sums left in a half type",
    "out: low bits cut off",
    "residual: low bits cut off",
    "coarse exponential",
)
"""Of half types alone."""
HIDING = [
    (name, mutant.name)
    for name, kernel in OFFERED.items()
    for mutant in every(replace(kernel, launch=kernel.eager), torch.bfloat16, CPU)
    if mutant.name in BELOW_THE_NOISE
]


def of_twin(name: str) -> tuple[Kernel, torch.dtype]:
    """The kernel with its twin's answers, which need no Triton, and the first type that it computes."""
    kernel = OFFERED[name]
    dtype = next(filter(kernel.computes, (torch.float32, torch.float16)))
    return replace(kernel, launch=kernel.eager), dtype


@pytest.mark.parametrize("name", OFFERED)
def test_every_offered_kernel_has_a_dozen_kinds_of_fault(name: str) -> None:
    mutants = every(*of_twin(name), CPU)
    kinds = {mutant.kind for mutant in mutants}
    assert len(kinds) >= 12
    assert ("accumulator" in kinds) == (name not in ADDS_NOTHING)
    assert ("batch" in kinds) == bool(OFFERED[name].batch_invariant)
    assert ("rescale" in kinds) == name.endswith("attention")
    assert len(mutants) == len({mutant.name for mutant in mutants})


@pytest.mark.parametrize("name", OFFERED)
def test_sums_that_are_not_what_they_should_be_are_seen(name: str) -> None:
    kernel, dtype = of_twin(name)
    for mutant in (mutant for mutant in every(kernel, dtype, CPU) if mutant.name in SUBTLE):
        faulty = replace(kernel, launch=mutant.apply(kernel.launch))
        seen = first_seen(judged_cases(faulty, dtype, CPU, seed=1))
        assert seen is not None, mutant.name
        assert not seen.crash, mutant.name
        assert seen.rule in ("max", "rms", "slices", "gain", "bias", "exact", "batch"), mutant.name


@pytest.mark.parametrize(("name", "fault"), HIDING)
def test_what_hides_in_the_noise_of_half_types_is_seen_there(name: str, fault: str) -> None:
    """With the twin's answers in bfloat16, which the interpreter does not compute."""
    kernel = replace(OFFERED[name], launch=OFFERED[name].eager)
    mutant = next(each for each in every(kernel, torch.bfloat16, CPU) if each.name == fault)
    seen = first_seen(judged_cases(replace(kernel, launch=mutant.apply(kernel.launch)), torch.bfloat16, CPU, seed=1))
    assert seen is not None
    assert not seen.crash


def test_every_kernel_whose_sums_cancel_may_leave_their_parts_in_half_precision() -> None:
    leaving = {name for name, fault in HIDING if fault == BELOW_THE_NOISE[0]}
    assert leaving == {name for name, kernel in OFFERED.items() if kernel.absolute}
