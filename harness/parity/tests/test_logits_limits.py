"""The limits of logits from both sides, each rule by itself and as docs/method.md 1.4 states it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.parity.levels.logits import Reference, close, judge_logits, judge_path
from harness.records.checks import UNBOUNDED, Check

TOKENS, VOCAB = 130, 32
"""More tokens than are compared at a time, twice."""
SIDES = [(0.99, True), (1.01, False)]
DTYPES = [torch.float16, torch.float32]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def signs(*shape: int) -> Tensor:
    return torch.where(drawn(1, *shape) > 0, 1.0, -1.0).double()


def checks(errors: Tensor, plain: Tensor, upcast: Tensor, dtype: torch.dtype) -> dict[str, Check]:
    reference = Reference(upcast, (upcast + plain).to(dtype))
    found = judge_logits((upcast + errors).to(dtype), reference, "logits", "logits")
    return {check.rule: check for check in found}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_the_largest_error(dtype: torch.dtype, share: float, passes: bool) -> None:
    plain = signs(TOKENS, VOCAB) / 8
    ours = plain.clone()
    ours[100, 3] *= -share * {torch.float16: 2.2, torch.float32: 4.4}[dtype]
    plain[7] = 0
    check = checks(ours, plain, torch.zeros(TOKENS, VOCAB).double(), dtype)["max"]
    assert (check.passed, check.noise) == (passes, 1 / 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_the_root_mean_square(dtype: torch.dtype, share: float, passes: bool) -> None:
    """Of all tokens, quiet ones and loud ones."""
    plain = signs(TOKENS, VOCAB) / 8
    plain[:50] *= 4
    ours = signs(TOKENS, VOCAB) * float(plain.square().mean().sqrt())
    ours *= share * {torch.float16: 1.25, torch.float32: 3.0}[dtype]
    assert checks(ours, plain, torch.zeros(TOKENS, VOCAB).double(), dtype)["rms"].passed is passes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_the_worst_token(dtype: torch.dtype, share: float, passes: bool) -> None:
    plain = signs(TOKENS, VOCAB) / 8
    plain[9] /= 4
    ours = plain.clone()
    ours[90] *= share * {torch.float16: 2.0, torch.float32: 4.0}[dtype]
    check = checks(ours, plain, torch.zeros(TOKENS, VOCAB).double(), dtype)["worst token"]
    assert (check.passed, check.where) == (passes, "token 90 of all rows")


def divergence(logits: Tensor, upcast: Tensor) -> float:
    truth = upcast.softmax(-1)
    return float((truth * (truth.log() - logits.double().softmax(-1).log())).sum(-1).mean())


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_mean_divergence_is_that_of_the_definition(dtype: torch.dtype) -> None:
    upcast, plain, ours = drawn(1, TOKENS, VOCAB), drawn(2, TOKENS, VOCAB) / 50, drawn(3, TOKENS, VOCAB) / 50
    check = checks(ours, plain, upcast, dtype)["mean KL"]
    theirs = divergence((upcast + plain).to(dtype), upcast)
    factor = {torch.float16: 1.5, torch.float32: 3.0}[dtype]
    assert check.error == pytest.approx(divergence((upcast + ours).to(dtype), upcast), rel=1e-6)
    assert check.noise == pytest.approx(theirs, rel=1e-6)
    assert check.limit == pytest.approx(factor * theirs + 1e-6, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_the_mean_divergence(dtype: torch.dtype, share: float, passes: bool) -> None:
    """Of two equal logits, one of which is off by little: a quarter of its square, halved."""
    upcast = torch.zeros(TOKENS, 2).double()
    plain, ours = upcast.clone(), upcast.clone()
    plain[:, 0], factor = 0.25, {torch.float16: 1.5, torch.float32: 3.0}[dtype]

    def kl(x: float) -> float:
        return math.log((math.exp(x / 2) + math.exp(-x / 2)) / 2)

    wanted, low, high = share * (factor * kl(0.25) + 1e-6), 0.0, 4.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kl(middle) < wanted else (low, middle)
    ours[:, 0] = low
    assert checks(ours, plain, upcast, dtype)["mean KL"].passed is passes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_a_divergence_of_a_millionth_is_none(dtype: torch.dtype, share: float, passes: bool) -> None:
    upcast = torch.zeros(1, 2).double()
    ours = torch.tensor([[0.0, 8**0.5 * 1e-3 * share**0.5]]).double()
    assert checks(ours, torch.zeros(1, 2), upcast, dtype)["mean KL"].passed is passes


def near_tie(margin: float, plain_error: float) -> dict[str, Check]:
    """Two best tokens `margin` apart, of which we choose the other; plain code errs elsewhere by `plain_error`."""
    upcast = torch.zeros(70, VOCAB).double()
    upcast[:, 4], upcast[:, 9] = 3.0, 3.0 + margin
    ours, plain = torch.zeros_like(upcast), torch.zeros_like(upcast)
    plain[:, 20] = plain_error
    ours[66, 4] = 1.5 * margin
    return checks(ours, plain, upcast, torch.float32)


@pytest.mark.parametrize(
    ("margin", "error", "where"),
    [
        (0.495, 0, "1 flips, each at a near-tie"),
        (0.5, 0, "1 flips, each at a near-tie"),
        (0.505, 1, "of 70 judged, first at token 66 of all rows"),
    ],
)
def test_a_choice_may_change_up_to_twice_the_plain_models_error(margin: float, error: int, where: str) -> None:
    check = near_tie(margin, 0.25)["top-1"]
    assert (check.error, check.noise, check.limit, check.where) == (error, 0, 0, where)


def test_an_error_of_our_own_allows_no_choice_to_change() -> None:
    assert near_tie(0.5, 0.0)["top-1"].error == 1


@pytest.mark.parametrize(("share", "passes"), [(0.99, True), (1.01, False)])
@pytest.mark.parametrize("noise", [1e-6, 2e-5])
def test_float32_is_held_to_a_hundred_thousandth_or_three_times_the_noise(
    noise: float, share: float, passes: bool
) -> None:
    upcast = drawn(0, 5, VOCAB)
    plain = upcast * (1 + noise)
    ours = plain * (1 + share * max(1e-5, 3 * noise))
    check = close(ours, plain, upcast, "logits", "logits", "x")
    assert (check.passed, check.rule, check.noise) == (passes, "relative Frobenius", pytest.approx(noise))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_float32_that_is_not_finite_is_off_without_end(value: float) -> None:
    upcast = drawn(0, 5, VOCAB)
    check = close(upcast * value, upcast, upcast, "logits", "logits", "x")
    assert (check.error, check.passed) == (UNBOUNDED, False)


def test_broken_shapes_and_numbers_break_a_limit_of_none() -> None:
    upcast = drawn(0, 5, VOCAB)
    reference = Reference(upcast, upcast.half())
    (structure,) = judge_logits(upcast[:4].half(), reference, "path", "p")
    (finite,) = judge_logits((upcast * torch.nan).half(), reference, "path", "p")
    for check, error in ((structure, 1), (finite, 5 * VOCAB)):
        assert (check.error, check.noise, check.limit, check.passed) == (error, 0, 0, False)


def test_a_path_is_its_worst_rule() -> None:
    upcast = drawn(0, 5, VOCAB)
    ours = (upcast + 0.1 * signs(5, VOCAB)).half()
    reference = Reference(upcast, (upcast + 0.1 * drawn(3, 5, VOCAB)).half())
    found = judge_logits(ours, reference, "path", "p")
    assert [check.rule for check in found] == ["max", "rms", "worst token", "mean KL", "top-1"]
    assert judge_path("p", ours, reference).usage == max(check.usage for check in found)


def test_every_token_counts_once() -> None:
    """Also those behind the first pieces that are compared."""
    for token in (0, 63, 64, 65, 127, 128, 129):
        errors = torch.zeros(TOKENS, VOCAB).double()
        errors[token, 5] = -2.0
        found = checks(errors, torch.zeros_like(errors), torch.zeros_like(errors), torch.float32)
        assert found["max"].error == 2
        assert found["rms"].error == pytest.approx(2 / math.sqrt(TOKENS * VOCAB))
        assert found["worst token"].error == pytest.approx(2 / math.sqrt(VOCAB))
        assert {found[rule].where for rule in ("max", "rms")} == {f"token {token} of all rows"}
