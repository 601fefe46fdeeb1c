"""The op level: a kernel against its eager twin on every entry of its menu, with the memory around it watched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from harness.build.provenance import kernel_sources
from harness.errors import HarnessError
from harness.parity.kernels.canaries import LARGE, NANS
from harness.parity.kernels.fixed_menu import CANCELING, cases, ordinary
from harness.parity.kernels.guarded_launch import Outputs, guarded, misplaced, reused
from harness.parity.kernels.rounding_bias import SignedErrors
from harness.parity.tolerance.bitwise import mismatches
from harness.parity.tolerance.budget import judge_canceling
from harness.parity.tolerance.rules import judge, worst
from harness.records.checks import Check
from harness.spec.kernel import Kernel, OpCase
from harness.spec.model import ModelSpec


def kernels_of(spec: ModelSpec, stack: Sequence[str]) -> tuple[Kernel, ...]:
    """Every kernel of the stack once."""
    return tuple({kernel.name: kernel for name in stack for kernel in spec.menu[name].kernels}.values())


def judged_dtypes(kernel: Kernel, target: torch.dtype) -> tuple[torch.dtype, ...]:
    """What a kernel is judged in: float32, which shows the maths, and the target dtype, as far as it computes them."""
    return tuple(filter(kernel.computes, dict.fromkeys((torch.float32, target))))


def seed_after_code(spec: ModelSpec, seed: int) -> int:
    """The seed of the op menus: it follows from the sources of the kernels, so that none can have been written for the
    shapes and values that it is judged on."""
    return int(hashlib.sha256(f"{seed}:{kernel_sources(spec)}".encode()).hexdigest()[:12], 16)


def check_kernel(kernel: Kernel, dtype: torch.dtype, device: torch.device, seed: int) -> list[Check]:
    """Judge `kernel` on its whole menu: one check per case and output (the worst rule), one per case and guard, one per
    output about the mean of its errors over all ordinary cases (`harness.parity.kernels.rounding_bias`), and two about
    the judgment itself.

    Guards count what broke, against a limit of 0: `inputs` elements of an input written without leave,
    `out-of-bounds write` and `out-of-bounds read` beside an input, an output or a workspace, `determinism` between two
    calls on equal inputs, `memory` an output that is an input, an earlier output, or not laid out densely where the
    twin's is; where a kernel promises it, `batch` the elements of the last row that differ when it is alone, in the
    first case of several. The first case is drawn again from another seed, so that a result remembered by shape shows.

    `sensitivity` counts which of an all-zeros and a shuffled output no case would have rejected; `reference` counts
    outputs whose float64 reference never left float32, and so could not judge it.

    A kernel that wrote where it must not is not launched again: what it would overwrite next could be anything.

    Raises HarnessError when the menu is empty or the twin's outputs cannot be compared.
    """
    return [check for checks in judged_cases(kernel, dtype, device, seed) for check in checks]


def judged_cases(kernel: Kernel, dtype: torch.dtype, device: torch.device, seed: int) -> Iterator[list[Check]]:
    """As `check_kernel`, the checks of one case at a time, so that a reader may stop at the first that fails."""
    survivors = set(_FORGERIES)
    rounded_references: set[str] | None = None
    in_company, signed = False, SignedErrors()
    for case in cases(kernel, dtype, device, seed):
        run = _run(kernel, case)
        if ordinary(case):
            _collect(signed, kernel, run)
        yield [*_judged(kernel, case, run.outputs, run), *run.guards]
        if any(corrupts_memory(check) for check in run.guards):
            return
        if not in_company and _rows(kernel, case) > 1:
            in_company = True
            yield [_alone(kernel, case, run.outputs)]
        forged = {name: _forge(_FORGERIES[name], run) for name in survivors}
        survivors -= {
            name for name, fake in forged.items() if not all(c.passed for c in _judged(kernel, case, fake, run))
        }
        rounded = {name for name in run.plain if _never_left_float32(name, kernel, run)}
        rounded_references = rounded if rounded_references is None else rounded_references & rounded
    if rounded_references is None:
        raise HarnessError(f"kernel {kernel.name} has an empty menu for {dtype}: it would pass without being run")
    yield [
        *signed.checks(kernel.name),
        _count(kernel, "all cases", "sensitivity", len(survivors), ", ".join(sorted(survivors))),
        _count(kernel, "all cases", "reference", len(rounded_references), ", ".join(sorted(rounded_references))),
    ]


def corrupts_memory(check: Check) -> bool:
    """Whether a check says that a kernel writes memory which is not its own."""
    return check.level == "op" and check.rule in ("out-of-bounds write", "inputs") and not check.passed


def check_far(kernel: Kernel, dtype: torch.dtype, device: torch.device, seed: int) -> list[Check]:
    """As `check_kernel` for the cases whose offsets pass 2^31 elements, without copies of the memory around them."""
    checks: list[Check] = []
    generator = torch.Generator(device).manual_seed(seed)
    for case in kernel.int64_offset_cases(dtype, device, generator) if kernel.int64_offset_cases else ():
        near = replace(case, inputs=_cloned(case.inputs, _packed))
        outputs = {name: value.clone() for name, value in kernel.launch(**case.inputs).items()}
        plain = kernel.eager(**_cloned(near.inputs, torch.Tensor.clone))
        reference = kernel.eager(**_cloned(near.inputs, _widened))
        checks += _judged(kernel, case, outputs, _Run(outputs, plain, reference, ()))
    return checks


@dataclass(frozen=True)
class _Run:
    """What one case produced."""

    outputs: Outputs
    plain: Outputs
    reference: Outputs
    guards: tuple[Check, ...]
    parts: Outputs = field(default_factory=dict)
    """By output of a canceling case, the sum of the absolute values of what its reference adds up."""


def _run(kernel: Kernel, case: OpCase) -> _Run:
    """The candidate first: it must not find the twin's result in freed memory."""
    read, unsteady = 0, 0
    with kernel.shared_workspace(case.inputs) if kernel.shared_workspace else nullcontext():
        first, second = guarded(kernel, case, NANS), guarded(kernel, case, LARGE)
        if _distance(first.outputs, second.outputs):
            unsteady = _distance(first.outputs, guarded(kernel, case, NANS).outputs)
            read = 0 if unsteady else _distance(first.outputs, second.outputs)
    plain = kernel.eager(**_cloned(case.inputs, torch.Tensor.clone))
    reference = kernel.eager(**_cloned(case.inputs, _widened))
    parts = _parts(kernel, case, reference)
    changes = {name: guard.changes() for name, guard in first.guards.items()}
    written = [name for name, (inside, _) in changes.items() if inside and name not in kernel.mutates]
    halo = {name: outside for name, (_, outside) in changes.items() if outside}
    # Two poisons: what was written may look like one of them.
    halo |= {**second.overrun, **first.overrun}
    wrong = [*misplaced(kernel, first, plain), *reused(kernel, first.returned, second.returned)]
    found = (
        _count(kernel, case.name, "inputs", sum(changes[name][0] for name in written), ", ".join(written)),
        _count(kernel, case.name, "out-of-bounds write", sum(halo.values()), ", ".join(halo)),
        _count(kernel, case.name, "out-of-bounds read", read),
        _count(kernel, case.name, "determinism", unsteady),
        _count(kernel, case.name, "memory", len(wrong), ", ".join(wrong)),
    )
    return _Run(first.outputs, plain, reference, found, parts)


def _parts(kernel: Kernel, case: OpCase, reference: Outputs) -> Outputs:
    """Of the outputs that a canceling case makes small, the sum of the absolute parts."""
    if kernel.absolute is None or CANCELING not in case.name:
        return {}
    whole = kernel.eager(**_cloned({**case.inputs, **kernel.absolute(case.inputs)}, _widened))
    sums = (name for name in whole if name not in kernel.bitwise_outputs)
    return {name: whole[name] for name in sums if not torch.equal(whole[name], reference[name])}


def _collect(signed: SignedErrors, kernel: Kernel, run: _Run) -> None:
    for name in run.plain.keys() & run.outputs.keys() - set(kernel.bitwise_outputs):
        signed.add(name, run.outputs[name], run.reference[name], run.plain[name])


def _rows(kernel: Kernel, case: OpCase) -> int:
    """How many rows a case has whose answers must not depend on each other; 0 where nothing is promised."""
    return case.inputs[kernel.batch_invariant[0]].shape[0] if kernel.batch_invariant else 0


def _alone(kernel: Kernel, case: OpCase, outputs: Outputs) -> Check:
    """The last row by itself, against what it was in company."""
    rows = _rows(kernel, case)
    last = {name: case.inputs[name][-1:] for name in kernel.batch_invariant}
    alone = guarded(kernel, replace(case, inputs={**case.inputs, **last}), NANS).outputs
    judged = [name for name, y in outputs.items() if name not in kernel.mutates and y.shape[0] == rows]
    return _count(kernel, case.name, "batch", sum(mismatches(alone[n], outputs[n][-1:].clone())[0] for n in judged))


def _cloned(inputs: Mapping[str, Any], copy: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {name: copy(value) if isinstance(value, Tensor) else value for name, value in inputs.items()}


def _packed(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor.clone()


def _distance(one: Outputs, other: Outputs) -> int:
    """Elements that differ between two calls; a changed name, shape or dtype counts as one."""
    count = len(one.keys() ^ other.keys())
    for name in one.keys() & other.keys():
        a, b = one[name], other[name]
        alike = (a.shape, a.dtype) == (b.shape, b.dtype)
        count += mismatches(a, b)[0] if alike else 1
    return count


def _judged(kernel: Kernel, case: OpCase, outputs: Outputs, run: _Run) -> list[Check]:
    """The worst rule per output. A wrong set of names is the one check that is left then."""
    if missing := outputs.keys() ^ run.plain.keys():
        return [_count(kernel, case.name, "structure", len(missing), f"outputs {', '.join(sorted(missing))}")]
    checks = []
    for name, plain in run.plain.items():
        reference = run.reference[name]
        if plain.is_floating_point() and name not in kernel.bitwise_outputs and reference.dtype != torch.float64:
            raise HarnessError(
                f"twin of {kernel.name} returns {name} as {reference.dtype} for float64 inputs: a reference that is "
                "rounded already cannot judge rounding"
            )
        checks.append(worst(_compared(kernel, case, name, outputs[name], run)))
    return checks


def _compared(kernel: Kernel, case: OpCase, name: str, output: Tensor, run: _Run) -> list[Check]:
    three, named = (output, run.reference[name], run.plain[name]), f"{case.name}: {name}"
    if name in run.parts:
        return judge_canceling(*three, run.parts[name], level="op", subject=kernel.name, name=named)
    exact = name in kernel.bitwise_outputs
    return judge(*three, level="op", subject=kernel.name, name=named, exact=exact)


def _never_left_float32(name: str, kernel: Kernel, run: _Run) -> bool:
    """Whether a float64 reference of a float32 result is float32 throughout: computed no better than what it judges.
    An output that only moves bits belongs in `copies`."""
    reference, plain = run.reference[name], run.plain[name]
    if name in kernel.bitwise_outputs or plain.dtype != torch.float32:
        return False
    return torch.equal(reference.nan_to_num(), reference.float().double().nan_to_num())


def _shuffled(tensor: Tensor) -> Tensor:
    order = torch.randperm(tensor.numel(), generator=torch.Generator().manual_seed(0)).to(tensor.device)
    return tensor.flatten()[order].view(tensor.shape)


_FORGERIES: Mapping[str, Callable[[Tensor], Tensor]] = {"zeros": torch.zeros_like, "shuffled": _shuffled}


def _forge(forgery: Callable[[Tensor], Tensor], run: _Run) -> Outputs:
    return {name: forgery(value) for name, value in run.plain.items()}


def _count(kernel: Kernel, case: str, rule: str, count: int, where: str = "") -> Check:
    return Check(level="op", subject=kernel.name, name=case, rule=rule, error=count, noise=0, limit=0, where=where)
