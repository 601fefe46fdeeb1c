"""The limits of one tensor from both sides: what is just inside passes, what is just outside is refused.

The rules are written down here a second time, slowly and from docs/method.md 1.2, and held against the fast ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.parity.tolerance import error_statistics
from harness.parity.tolerance.bitwise import mismatches
from harness.parity.tolerance.rules import judge, worst
from harness.records.checks import Check

DTYPES = [torch.bfloat16, torch.float16, torch.float32]
MAXIMUM, RMS, SLICE, FLOOR = (
    {torch.bfloat16: reduced, torch.float16: reduced, torch.float32: single}
    for reduced, single in ((2.6, 12.0), (1.25, 6.0), (2.0, 14.0), (0.0, 1.0))
)
SMALL = 2.0**-10
"""Of the reference beside errors of 1 and more, so that its own rounding is no part of the noise."""
ROWS, COLUMNS = 9, 16
N = ROWS * COLUMNS


def judged(o: Tensor, r: Tensor, p: Tensor) -> list[Check]:
    return judge(o, r, p, level="op", subject="op", name="out")


def by_rule(o: Tensor, r: Tensor, p: Tensor, rule: str) -> list[Check]:
    return [check for check in judged(o, r, p) if check.rule == rule]


def slowly(o: Tensor, r: Tensor, p: Tensor) -> list[tuple[str, float, float, float]]:
    """(rule, error, noise, limit) of every rule but the structure, element by element."""
    dtype, k = o.dtype, {"max": MAXIMUM, "rms": RMS, "slices": SLICE, "floor": FLOOR}
    maximum, rms, slices, floor = (k[name][dtype] for name in k)
    rounded = r.to(dtype)
    keep = torch.isfinite(rounded).numpy()
    exact = np.where(keep, r.numpy(), 0.0)
    errors = [
        np.where(keep & np.isfinite(x.double().numpy()), x.double().numpy() - exact, 0.0) for x in (o, p, rounded)
    ]
    info = torch.finfo(dtype)
    unit = np.array([2.0 ** math.floor(math.log2(max(abs(x), info.tiny))) * info.eps for x in exact.flat])
    wrong = (errors[0] != 0) | (errors[1] != 0) | (errors[2] != 0)
    errors.append(np.where((exact != 0) & wrong, unit.reshape(exact.shape) / 2, 0.0))

    def ruling(bound: np.ndarray) -> float:
        return max(1.0, (bound**2).sum() ** 2 / (bound**4).sum()) if bound.any() else 1.0

    def of_noise(values: list[float], share: float) -> float:
        return max(values[1], values[2], floor * share * values[3])

    few = 1 + 3 / math.sqrt(ruling(errors[3]))
    peaks = [float(np.abs(e).max()) for e in errors]
    means = [math.sqrt((e**2).sum() / max(1, wrong.sum())) for e in errors]
    overall = of_noise(means, 1 / math.sqrt(3))
    found = [("max", peaks[0], of_noise(peaks, 1), maximum * few * of_noise(peaks, 1))]
    found.append(("rms", means[0], overall, rms * few * overall))
    for axis, length in enumerate(exact.shape):
        if length < 2:
            continue
        every = []
        for index in range(length):
            here = [np.take(e, index, axis) for e in errors]
            m = max(1, np.take(wrong, index, axis).sum())
            own = [math.sqrt((e**2).sum() / m) for e in here]
            noise = of_noise(own, 1 / math.sqrt(3))
            share = overall * (0.5 + 2 / math.sqrt(m))
            in_units = overall / (means[3] or 1.0) * own[3] * (0.5 + 2 / math.sqrt(ruling(here[3])))
            limit = slices * (1 + 4 / math.sqrt(m)) * max(noise, share, in_units)
            every.append((own[0] / (limit or math.ulp(0)) if own[0] else 0.0, ("slices", own[0], noise, limit)))
        found.append(max(every, key=lambda pair: pair[0])[1])
    n, square = max(1, keep.sum()), float((exact**2).sum())
    for rule, weight, scale, allowance in (
        ("gain", exact, square or 1.0, 1e-6),
        ("bias", np.ones_like(exact), n * (math.sqrt(square / n) or 1.0), 1e-6 if square else 0.0),
    ):
        totals = [abs((e * weight).sum()) / scale for e in errors]
        spreads = []
        for e in errors[1:3]:
            sums = [
                (e * weight).sum(tuple(a for a in range(e.ndim) if a != axis))
                for axis, length in enumerate(e.shape)
                if length >= 8
            ]
            spreads.append(max([((e * weight) ** 2).sum(), *((each**2).sum() for each in sums)]))
        spreads.append(floor * ((errors[3] * weight) ** 2).sum() / 3)
        noise = math.sqrt(max(spreads)) / scale
        found.append((rule, totals[0], noise, 2 * totals[1] + 5 * noise + allowance))
    return found


def drawn(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outliers(r: Tensor) -> Tensor:
    r[..., 0] *= 100
    return r


def unwritten(r: Tensor) -> Tensor:
    r[2:] = 0
    return r


def alike(r: Tensor) -> Tensor:
    return r[:1].expand_as(r).clone()


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda r: r,
    "small": lambda r: r * 1e-5,
    "offset": lambda r: r + 4,
    "outlier channels": outliers,
    "pages that nobody writes": unwritten,
    "rows alike": alike,
    "beyond the largest number": lambda r: torch.where(r > 2, torch.inf, r),
    "what plain code has exactly": torch.round,
    "zeros": torch.zeros_like,
    "zeros that plain code misses": torch.zeros_like,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_rules_are_the_slow_ones(kind: str, dtype: torch.dtype) -> None:
    for seed, shape in enumerate([(6, 20), (1, 12), (9, 3, 8), (7,), (8, 9), (2, 10), (1,)]):
        r = KINDS[kind](drawn(seed, shape))
        step = torch.finfo(dtype).eps
        o, p = ((r * (1 + spread * step * drawn(seed + at, shape))).to(dtype) for at, spread in ((50, 3), (90, 1)))
        if kind == "what plain code has exactly":
            p = r.to(dtype)
        if kind.startswith("zeros"):
            o = (drawn(seed, shape) * 1e-3).to(dtype)
        if kind == "zeros that plain code misses":
            p = (drawn(seed + 1, shape) * 1e-3).to(dtype)
        fast = [(c.rule, c.error, c.noise, c.limit) for c in judged(o, r, p) if c.rule not in ("structure", "mask")]
        slow = slowly(o, r, p)
        assert [name for name, *_ in fast] == [name for name, *_ in slow]
        for one, other in zip(fast, slow, strict=True):
            assert one[1:] == pytest.approx(other[1:], rel=1e-6, abs=1e-14), one[0]


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def signs(*shape: int) -> Tensor:
    return torch.where(drawn(1, shape) > 0, 1.0, -1.0).double()


def reference() -> Tensor:
    return signs(ROWS, COLUMNS) * SMALL


def off(r: Tensor, errors: Tensor, dtype: torch.dtype) -> Tensor:
    """Errors of 1 and more beside a reference of a thousandth."""
    return (r + errors).to(dtype)


SIDES = [(0.985, True), (1.015, False)]


@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_the_largest_error(dtype: torch.dtype, share: float, passes: bool) -> None:
    r, errors = reference(), signs(ROWS, COLUMNS)
    plain = off(r, errors, dtype)
    errors[3, 5] *= share * MAXIMUM[dtype] * (1 + 3 / math.sqrt(N))
    (check,) = by_rule(off(r, errors, dtype), r, plain, "max")
    assert (check.passed, check.where) == (passes, "(3, 5)")


@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_the_root_mean_square(dtype: torch.dtype, share: float, passes: bool) -> None:
    r, errors = reference(), signs(ROWS, COLUMNS)
    ours = errors * share * RMS[dtype] * (1 + 3 / math.sqrt(N))
    (check,) = by_rule(off(r, ours, dtype), r, off(r, errors, dtype), "rms")
    assert check.passed is passes


@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_a_slice_is_held_against_its_own_noise_where_that_is_loud(
    dtype: torch.dtype, share: float, passes: bool
) -> None:
    r, errors = reference(), signs(ROWS, COLUMNS)
    errors[4] *= 8
    ours = errors.clone()
    ours[4] *= share * SLICE[dtype] * (1 + 4 / math.sqrt(COLUMNS))
    rows, _ = by_rule(off(r, ours, dtype), r, off(r, errors, dtype), "slices")
    assert (rows.passed, rows.where.split(" (")[0]) == (passes, "axis=0 index=4")


@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_a_quiet_slice_is_granted_half_of_the_whole_and_more_the_shorter_it_is(
    dtype: torch.dtype, share: float, passes: bool
) -> None:
    r, errors = reference(), signs(ROWS, COLUMNS)
    errors[4] = 0
    ours = errors.clone()
    overall = math.sqrt((N - COLUMNS) / N)
    usual = overall * (0.5 + 2 / math.sqrt(COLUMNS))
    ours[4] = signs(COLUMNS) * share * SLICE[dtype] * (1 + 4 / math.sqrt(COLUMNS)) * usual
    rows, _ = by_rule(off(r, ours, dtype), r, off(r, errors, dtype), "slices")
    assert (rows.passed, rows.where.split(" (")[0]) == (passes, "axis=0 index=4")


@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_a_quiet_slice_of_large_numbers_is_granted_the_noise_of_its_size(
    dtype: torch.dtype, share: float, passes: bool
) -> None:
    r, errors = reference(), signs(ROWS, COLUMNS)
    r[4] *= 16
    errors[4] = 0
    ours = errors.clone()
    overall = math.sqrt((N - COLUMNS) / N)
    units = math.sqrt((N - COLUMNS + 256 * COLUMNS) / N)
    usual = overall / units * 16 * (0.5 + 2 / math.sqrt(COLUMNS))
    ours[4] = signs(COLUMNS) * share * SLICE[dtype] * (1 + 4 / math.sqrt(COLUMNS)) * usual
    rows, _ = by_rule(off(r, ours, dtype), r, off(r, errors, dtype), "slices")
    assert (rows.passed, rows.where.split(" (")[0]) == (passes, "axis=0 index=4")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_a_common_factor_of_either_sign(dtype: torch.dtype, sign: int, share: float, passes: bool) -> None:
    """The plain result has one, too, of the other sign, and every row repeats it."""
    r = signs(ROWS, 64)
    plain = (r - r.sign() * 0.25).to(dtype)
    own, spread = 0.25, math.sqrt(ROWS * (64 * 0.25) ** 2) / (ROWS * 64)
    ours = (r * (1 + sign * share * (2 * own + 5 * spread))).to(dtype)
    (check,) = by_rule(ours, r, plain, "gain")
    assert check.passed is passes


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("share", "passes"), SIDES)
def test_a_common_offset_of_either_sign(dtype: torch.dtype, sign: int, share: float, passes: bool) -> None:
    r = signs(ROWS, 64)
    plain = (r - 0.25).to(dtype)
    own, spread = 0.25, math.sqrt(ROWS * (64 * 0.25) ** 2) / (ROWS * 64)
    ours = (r + sign * share * (2 * own + 5 * spread)).to(dtype)
    (check,) = by_rule(ours, r, plain, "bias")
    assert check.passed is passes


@pytest.mark.parametrize("rule", ["gain", "bias"])
@pytest.mark.parametrize(("share", "passes"), [(0.9, True), (1.1, False)])
def test_what_plain_code_has_exactly_right_may_be_off_by_a_millionth(rule: str, share: float, passes: bool) -> None:
    r = torch.ones(4, 7, dtype=torch.float64) * 2.0**20
    r[0, 0] = 1.0
    scale = float(r.square().sum() if rule == "gain" else r.numel() * r.square().mean().sqrt())
    # Plain code is exact, so that all noise is half a unit of the one element that is wrong.
    noise = 2.0**-24 / math.sqrt(3) / scale
    ours = r.clone()
    ours[0, 0] += share * 1e-6 * scale
    (check,) = by_rule(ours.float(), r, r.float(), rule)
    assert check.limit == pytest.approx(1e-6 + 5 * noise, rel=1e-6)
    assert check.passed is passes


def test_fewer_elements_than_eight_along_an_axis_are_no_sample_of_their_own() -> None:
    spreads = {}
    for rows in (7, 8):
        r = torch.ones(rows, 2, dtype=torch.float64)
        plain = (r + 0.25).float()
        (check,) = by_rule(plain, r, plain, "bias")
        spreads[rows] = check.noise * rows * 2
    assert spreads[7] == pytest.approx(math.sqrt(14 * 0.25**2))
    assert spreads[8] == pytest.approx(math.sqrt(8 * 0.5**2))


def test_every_size_of_piece_gives_the_same_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    r = drawn(0, (5, 11, 3))
    r[0, 7, 1] = torch.inf
    o, p = (r + 0.01 * drawn(1, r.shape)).half(), (r + 0.01 * drawn(2, r.shape)).half()
    o[4, 9, 2] = torch.nan
    whole = judged(o, r, p)
    for elements in (1, 15, 16, 44, 45, 46, 10**6):
        monkeypatch.setattr(error_statistics, "CHUNK_ELEMENTS", elements)
        for one, other in zip(judged(o, r, p), whole, strict=True):
            assert (one.rule, one.where) == (other.rule, other.where)
            assert (one.error, one.noise, one.limit) == pytest.approx((other.error, other.noise, other.limit))


def test_a_large_tensor_is_measured_in_pieces_of_a_million() -> None:
    pieces = list(error_statistics._chunks((3, 1 << 20)))
    assert pieces == [(1, at * (1 << 20) // 3, (1 << 20) // 3) for at in range(3)] + [(1, 3 * ((1 << 20) // 3), 1)]


def test_the_first_of_several_wrong_elements_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_statistics, "CHUNK_ELEMENTS", 6)
    r = drawn(0, (9, 3))
    o = r.half()
    o[5, 1] = o[7, 0] = torch.nan
    (mask,) = by_rule(o, r, r.half(), "mask")
    assert (mask.error, mask.limit, mask.noise, mask.where, mask.passed) == (2, 0, 0, "(5, 1)", False)


def test_the_first_of_several_largest_errors_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_statistics, "CHUNK_ELEMENTS", 6)
    r = signs(9, 3)
    o = r.float()
    assert by_rule(o, r, r.float(), "max")[0].where == "(0, 0)"
    o[5, 1], o[7, 0] = 3 * r[5, 1], 3 * r[7, 0]
    assert by_rule(o, r, r.float(), "max")[0].where == "(5, 1)"


@pytest.mark.parametrize(("near", "wrong"), [(65248.0, 0), (65216.0, 1)])
def test_the_edge_of_the_type_is_four_roundings_wide(near: float, wrong: int) -> None:
    within, beyond = (torch.tensor([1.0, x], dtype=torch.float64) for x in (near, 65521.0))
    assert by_rule(beyond.half(), within, beyond.half(), "mask")[0].error == wrong
    assert by_rule(within.half(), beyond, within.half(), "mask")[0].error == wrong


@pytest.mark.parametrize("wrong", [{"candidate": 0.0}, {"reference": 0.0}, {"plain": 0.0}])
def test_a_mask_is_right_where_nothing_is_finite_too(wrong: dict[str, float]) -> None:
    r = torch.tensor([1.0, torch.nan, torch.inf], dtype=torch.float64)
    tensors = {"candidate": r.half(), "reference": r.clone(), "plain": r.half()}
    for name, value in wrong.items():
        tensors[name][1] = value
    (mask,) = by_rule(*tensors.values(), "mask")
    assert mask.error == ("plain" not in wrong)


def test_every_kind_of_wrong_structure_is_counted() -> None:
    x = torch.ones(2, 3)
    (check,) = judged(x.half()[:1], x.double(), x)
    assert (check.rule, check.error, check.noise, check.limit) == ("structure", 2, 0, 0)
    (check,) = judged(x, x.double().T, x)
    assert (check.rule, check.error, check.where) == ("structure", 1, "reference of shape (3, 2)")
    assert judged(x, x.double(), x)[0].where == ""


def test_what_is_elsewhere_is_another_structure() -> None:
    x = torch.ones(2, 3)
    (check,) = judged(torch.ones(2, 3, device="meta"), x.double(), x)
    assert (check.error, check.where) == (1, "device meta instead of cpu")


def test_every_rule_is_told_in_its_order() -> None:
    x = torch.ones(2, 3)
    rules = [check.rule for check in judged(x, x.double(), x)]
    assert rules == ["structure", "mask", "max", "rms", "slices", "slices", "gain", "bias"]
    structure, exact = judged(x.int() + 1, x.double(), x.int())
    assert (structure.rule, structure.passed) == ("structure", True)
    assert (exact.rule, exact.error, exact.noise, exact.limit, exact.passed) == ("exact", 6, 0, 0, False)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ((), ""),
        ((3,), ""),
        ((3, 4), " (2 of 8 wrong, 3 to 4)"),
        ((1, 6, 7), " (3 of 8 wrong, 1 to 7)"),
        (range(8), " (all wrong)"),
    ],
)
def test_the_slices_that_are_wrong_are_told_where_they_are_several(wrong: tuple[int, ...], where: str) -> None:
    r = drawn(0, (8, 40))
    plain = r.float()
    ours = plain.clone()
    ours[list(wrong)] *= 2
    rows, _ = by_rule(ours, r, plain, "slices")
    assert rows.passed is not bool(wrong)
    assert rows.where.partition(" ")[2].partition(" ")[2] == where.strip()


def test_the_worst_check_is_the_one_that_used_most_of_its_limit() -> None:
    checks = judged(*(x.clone() for x in (torch.ones(3) * 1.5, torch.ones(3, dtype=torch.float64), torch.ones(3))))
    assert worst(checks).usage == max(check.usage for check in checks) > min(check.usage for check in checks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.float8_e4m3fn, torch.int64])
def test_each_width_is_compared_by_its_own_bits(dtype: torch.dtype) -> None:
    want = torch.tensor([1.0, -2.0, 0.0, 3.0]).to(dtype)
    assert mismatches(want.clone(), want) == (0, "")
    other = want.clone()
    other[3] = -3.0 if dtype != torch.int64 else 4
    count, where = mismatches(other, want)
    assert (count, where.split(" ")[0]) == (1, "(3,)")


def test_distances_are_counted_across_zero_and_between_negative_numbers() -> None:
    for dtype, bits in ((torch.float32, torch.int32), (torch.float16, torch.int16), (torch.float8_e4m3fn, torch.uint8)):
        least = torch.tensor([1], dtype=bits).view(dtype)
        negative = (
            (-least.float()).to(dtype) if dtype != torch.float8_e4m3fn else torch.tensor([129], dtype=bits).view(dtype)
        )
        assert mismatches(negative, least) == (1, "(0,) ulp=2")
        zero = torch.zeros(1, dtype=dtype)
        assert mismatches(negative, zero) == (1, "(0,) ulp=1")
        further = torch.tensor([3], dtype=bits).view(dtype)
        assert mismatches(further, least) == (1, "(0,) ulp=2")


@pytest.mark.parametrize(
    ("dtype", "distance"), [(torch.float32, 2**23), (torch.float16, 2**10), (torch.bfloat16, 2**7)]
)
def test_a_power_of_two_is_as_many_units_away_as_it_has_fractions(dtype: torch.dtype, distance: int) -> None:
    one, two = (torch.tensor([x]).to(dtype) for x in (1.0, 2.0))
    assert mismatches(two, one) == mismatches(-two, -one) == (1, f"(0,) ulp={distance}")
    assert mismatches(one, two) == (1, f"(0,) ulp={distance}")


def test_only_two_nans_are_equal_whatever_their_bits() -> None:
    nan, one = torch.tensor([torch.nan]), torch.tensor([1.0])
    assert mismatches(-nan, nan)[0] == 0
    for o, want in itertools.permutations((nan, one)):
        assert mismatches(o, want)[0] == 1
