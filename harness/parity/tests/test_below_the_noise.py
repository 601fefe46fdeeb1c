"""What one draw of a kernel hides: half-precision partial sums, a coarse exponential, low bits that are cut off."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.parity.kernels.fixed_menu import CANCELING, ITEMS
from harness.parity.kernels.input_kinds import check_input_kinds
from harness.parity.kernels.kernel_checks import check_kernel
from harness.parity.kernels.rounding_bias import FEWEST_BLOCKS, RULE, Z
from harness.spec.kernel import Cost, Kernel, OpCase
from models.common.kernels import values
from models.common.kernels.mutation import toward_zero

CPU = torch.device("cpu")
HALF = (torch.float16, torch.bfloat16)
SEEDS = range(30)


def kernel(launch, eager, cases, **fields) -> Kernel:
    return Kernel("made", launch, eager, cases, lambda **_: Cost(0, 0), lambda _: (), **fields)


def refused(made: Kernel, dtype: torch.dtype, seed: int = 1) -> dict[str, list[str]]:
    """Rule -> names, of every check that failed."""
    found: dict[str, list[str]] = {}
    for check in check_kernel(made, dtype, CPU, seed):
        if not check.passed:
            found.setdefault(check.rule, []).append(check.name)
    return found


def product(x, weight):
    return {"y": F.linear(x, weight)}


def split(left_in: torch.dtype | None):
    """Four programs share each sum and leave their parts in `left_in`; None is the type that is summed."""

    def launch(x, weight):
        shares = zip(x.float().chunk(4, 1), weight.float().chunk(4, 1), strict=True)
        parts = [(a @ b.t()).to(left_in or x.dtype).float() for a, b in shares]
        return {"y": torch.stack(parts).sum(0).to(x.dtype)}

    return launch


def products(dtype, device, generator):
    draw = (dtype, device, generator)
    for m in (1, 3, 5):
        weight = values.normal((24, 256), *draw, scale=1 / 16)
        yield OpCase(f"{m} rows", {"x": values.normal((m, 256), *draw), "weight": weight})


def canceling_products(dtype, device, generator):
    yield from products(dtype, device, generator)
    draw = (dtype, device, generator)
    weight = values.normal((24, 256), *draw, scale=0.1, offset=1.0)
    yield OpCase("canceling", {"x": values.canceling((2, 256), *draw), "weight": weight})


def absolute(inputs):
    return {"x": inputs["x"].abs()}


def exponential(x, like):
    return {"y": torch.exp2(x).to(like.dtype)}


def coarse_exponential(x, like):
    """Up to 2^-12 of the result too small, and never too large, as a polynomial with too few terms is."""
    whole = x.floor()
    fraction = x - whole
    lost = 2.0**-12 * (4 * fraction * (1 - fraction)).clamp_min(0.5)
    return {"y": (torch.exp2(whole) * torch.exp2(fraction) * (1 - lost)).to(like.dtype)}


def right_exponential(x, like):
    whole = x.floor()
    return {"y": (torch.exp2(whole) * torch.exp2(x - whole)).to(like.dtype)}


def exponents(dtype, device, generator):
    """As many as the mean of so small an error asks for, and few at a time: of float16 it is a quarter of a unit."""
    shape = (1, 16) if dtype == torch.float16 else (16, 48)
    for number in range(20):
        x = values.normal(shape, torch.float32, device, generator)
        yield OpCase(f"draw {number}", {"x": x, "like": torch.zeros(1, dtype=dtype)})


def added(x, gate, residual):
    return {"y": x * gate + residual}


def cut_and_added(x, gate, residual):
    """The product is cut off to its type where the twin's is rounded."""
    return {"y": toward_zero(x.double() * gate.double(), x.dtype) + residual}


def right_sum(x, gate, residual):
    return {"y": ((x * gate).float() + residual.float()).to(x.dtype)}


def positive_sums(dtype, device, generator):
    """Products of about a quarter of what they are added to."""
    for number in range(16):
        x, gate, residual = (values.normal((4, 32), dtype, device, generator).abs() for _ in range(3))
        yield OpCase(f"draw {number}", {"x": x, "gate": gate / 4, "residual": residual})


@pytest.mark.parametrize("dtype", HALF)
def test_partial_sums_in_half_precision_hide_in_products_that_do_not_cancel(dtype) -> None:
    assert refused(kernel(split(None), product, products), dtype) == {}
    found = refused(kernel(split(None), product, canceling_products, absolute=absolute), dtype)
    assert found == {"budget": ["canceling: y"]}


@pytest.mark.parametrize("dtype", HALF)
def test_a_twin_that_leaves_half_precision_parts_excuses_nobody(dtype) -> None:
    def noisy(x, weight):
        return product(x, weight) if x.dtype == torch.float64 else split(None)(x, weight)

    alike = kernel(noisy, noisy, canceling_products)
    assert refused(alike, dtype) == {}, "held to the twin's own error"
    assert refused(replace(alike, absolute=absolute), dtype) == {"budget": ["canceling: y"]}


@pytest.mark.parametrize(
    ("launch", "eager", "cases"),
    [(coarse_exponential, exponential, exponents), (cut_and_added, added, positive_sums)],
)
@pytest.mark.parametrize("dtype", HALF)
def test_errors_to_one_side_show_in_their_mean_alone(launch, eager, cases, dtype) -> None:
    assert refused(kernel(launch, eager, cases), dtype) == {RULE: ["ordinary cases: y"]}


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
@pytest.mark.parametrize(
    ("launch", "eager", "cases", "fields"),
    [
        (split(torch.float32), product, canceling_products, {"absolute": absolute}),
        (right_exponential, exponential, exponents, {}),
        (right_sum, added, positive_sums, {}),
    ],
)
def test_right_kernels_pass_whatever_the_seed(launch, eager, cases, fields, dtype) -> None:
    made = kernel(launch, eager, cases, **fields)
    checks = [check for seed in SEEDS for check in check_kernel(made, dtype, CPU, seed)]
    assert [check for check in checks if not check.passed] == []
    assert max(check.usage for check in checks if check.rule in (RULE, "budget")) < 0.7


@pytest.mark.parametrize("dtype", HALF)
def test_what_the_twin_loses_a_kernel_may_lose_too(dtype) -> None:
    def cut(x, gate, residual):
        return (added if x.dtype == torch.float64 else cut_and_added)(x, gate, residual)

    assert refused(kernel(cut_and_added, cut, positive_sums), dtype) == {}
    assert refused(kernel(right_sum, cut, positive_sums), dtype) == {}, "nor must it"


def test_equal_answers_are_one_sample() -> None:
    def repeated(dtype, device, generator):
        for case in positive_sums(dtype, device, generator):
            yield OpCase(case.name, {name: x[:1, :1].expand(64, 3).contiguous() for name, x in case.inputs.items()})

    def means(cases) -> list[str]:
        checks = check_kernel(kernel(right_sum, added, cases), torch.float16, CPU, 1)
        return [check.name for check in checks if check.rule == RULE]

    assert means(positive_sums) == ["ordinary cases: y"]
    assert means(repeated) == [], f"16 different answers, fewer than {FEWEST_BLOCKS}"


def test_a_mean_that_could_not_fail_is_not_made() -> None:
    assert Z**2 < FEWEST_BLOCKS


def test_a_sum_that_cancels_in_name_alone_is_no_item() -> None:
    def named(dtype, device, generator):
        for case in products(dtype, device, generator):
            yield OpCase(f"canceling, {case.name}", case.inputs)

    def wrong(cases) -> str:
        others = dict.fromkeys({*ITEMS} - {CANCELING}, "of no matter here")
        return check_input_kinds(kernel(product, product, cases, inapplicable=others), torch.float32, CPU, 1).where

    assert wrong(products) == "no case is canceling"
    assert "`canceling, 1 rows` is not canceling" in wrong(named)
    assert wrong(canceling_products) == ""


@pytest.mark.parametrize(("shape", "axis", "over"), [((5, 512), -1, 0), ((8, 3, 64), 0, 2), ((2, 2, 256, 128), 2, 3)])
@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
def test_what_is_left_of_a_canceling_sum_is_a_fraction_of_its_parts(shape, axis, over, dtype) -> None:
    made = values.canceling(shape, dtype, CPU, torch.Generator().manual_seed(0), axis, over)
    assert made.shape == shape
    assert made.dtype == dtype
    left, parts = made.double().sum(axis).abs(), made.double().abs().sum(axis)
    assert (left / parts).median() < 0.1


def test_toward_zero_cuts_and_never_rounds_up() -> None:
    exact = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for dtype in HALF:
        cut: Tensor = toward_zero(exact, dtype)
        eps = torch.finfo(dtype).eps
        assert (cut.double().abs() <= exact.abs()).all()
        assert (exact.abs() - cut.double().abs() < exact.abs() * eps).all()
