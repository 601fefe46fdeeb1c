"""The rules kill planted faults by name, and let correct alternatives pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.parity.tolerance import error_statistics
from harness.parity.tolerance.rules import judge, relative_frobenius, span, worst

EPS = 1e-6
REDUCED = [torch.bfloat16, torch.float16]


def upcast(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def rms_norm(x: Tensor, w: Tensor, eps: float = EPS) -> Tensor:
    h = x.to(upcast(x))
    return w * (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def rms_norm_wide_weight(x: Tensor, w: Tensor) -> Tensor:
    h = x.float()
    parts = sum(part.square().sum(-1, keepdim=True) for part in h.split(32, -1))
    return (h / torch.sqrt(parts / h.shape[-1] + EPS) * w.float()).to(x.dtype)


def attention(q: Tensor, k: Tensor, v: Tensor, last: int = 0) -> Tensor:
    """Causal; `last` shifts the mask's diagonal."""
    scores = (q @ k.mT) * q.shape[-1] ** -0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + last)
    scores = scores.masked_fill(hidden, -torch.inf)
    return torch.softmax(scores, -1, dtype=upcast(q)).to(q.dtype) @ v


def flash_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 8) -> Tensor:
    rows = torch.arange(q.shape[-2])[:, None]
    best = torch.full((*q.shape[:-1], 1), -1e30)
    total, out = torch.zeros_like(best), torch.zeros(*q.shape[:-1], v.shape[-1])
    for start in range(0, k.shape[-2], block):
        keys = slice(start, start + block)
        scores = q.float() * q.shape[-1] ** -0.5 @ k[..., keys, :].float().mT
        seen = torch.arange(k.shape[-2])[None, keys] <= rows
        new = torch.maximum(best, scores.masked_fill(~seen, -1e30).amax(-1, keepdim=True))
        p = torch.where(seen, torch.exp(scores - new), 0.0)
        total = total * torch.exp(best - new) + p.sum(-1, keepdim=True)
        out = out * torch.exp(best - new) + p.to(q.dtype).float() @ v[..., keys, :].float()
        best = new
    return (out / total).to(q.dtype)


def linear(x: Tensor, w: Tensor) -> Tensor:
    return x @ w


def split_k(x: Tensor, w: Tensor) -> Tensor:
    partial = (a.float() @ b.float() for a, b in zip(x.split(24, -1), w.split(24, 0), strict=True))
    return sum(partial).to(x.dtype)


def norm_inputs(dtype: torch.dtype, seed: int, scale: float = 1.0) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    x, w = torch.randn(23, 129, generator=g) * scale, 1 + 0.1 * torch.randn(129, generator=g)
    return x.to(dtype), w.to(dtype)


def attention_inputs(dtype: torch.dtype, seed: int) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(4, 19, 16, generator=g).to(dtype) for _ in range(3))


def linear_inputs(dtype: torch.dtype, seed: int) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(17, 96, generator=g).to(dtype), torch.randn(96, 40, generator=g).to(dtype)


def broken(candidate: Tensor, twin, inputs: tuple[Tensor, ...]) -> set[str]:
    reference = twin(*(x.double() for x in inputs))
    checks = judge(candidate, reference, twin(*inputs), level="op", subject="op", name="out")
    return {check.rule for check in checks if not check.passed}


ALTERNATIVES = {
    "norm, weight in float32, blocked sum": (rms_norm, rms_norm_wide_weight, norm_inputs),
    "norm of tiny inputs": (rms_norm, rms_norm_wide_weight, lambda dtype, seed: norm_inputs(dtype, seed, 1e-3)),
    "flash attention": (attention, flash_attention, attention_inputs),
    "split-K": (linear, split_k, linear_inputs),
}


@pytest.mark.parametrize("name", ALTERNATIVES)
@pytest.mark.parametrize("dtype", [*REDUCED, torch.float32])
def test_correct_alternatives_raise_no_alarm(name, dtype):
    twin, candidate, inputs = ALTERNATIVES[name]
    for seed in range(30):
        drawn = inputs(dtype, seed)
        assert not broken(candidate(*drawn), twin, drawn), f"seed {seed}"


@pytest.mark.parametrize("dtype", [*REDUCED, torch.float32])
def test_missing_eps_is_killed_on_tiny_inputs_only(dtype):
    tiny, ordinary = norm_inputs(dtype, 0, 1e-3), norm_inputs(dtype, 0)
    assert {"rms", "gain"} <= broken(rms_norm(*tiny, eps=0.0), rms_norm, tiny)
    if dtype in REDUCED:
        assert not broken(rms_norm(*ordinary, eps=0.0), rms_norm, ordinary)


def dropped_tail(out: Tensor) -> Tensor:
    out[..., -1] = 0
    return out


def stale_last_row(out: Tensor) -> Tensor:
    out[..., -1, :] = out[..., -2, :]
    return out


def wrong_head(out: Tensor) -> Tensor:
    out[1] = out[2]
    return out


@pytest.mark.parametrize("dtype", REDUCED)
@pytest.mark.parametrize(
    ("fault", "where"), [(dropped_tail, "axis=2 index=15"), (stale_last_row, "axis=1 index=18"), (wrong_head, "axis=0")]
)
def test_a_wrong_slice_is_named(fault, where, dtype):
    inputs = attention_inputs(dtype, 0)
    reference = attention(*(x.double() for x in inputs))
    checks = judge(
        fault(flash_attention(*inputs)), reference, attention(*inputs), level="op", subject="attention", name="out"
    )
    failed = [check.where for check in checks if check.rule == "slices" and not check.passed]
    assert any(place.startswith(where) for place in failed), failed


@pytest.mark.parametrize("dtype", [*REDUCED, torch.float32])
def test_half_a_percent_of_scale_is_killed_by_gain(dtype):
    inputs = linear_inputs(dtype, 0)
    scaled = (inputs[0].double() @ inputs[1].double() * 1.005).to(dtype)
    assert "gain" in broken(scaled, linear, inputs)


def test_an_offset_hidden_by_rounding_is_killed_by_bias():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 512, generator=g).bfloat16()
    shifted = (x.double() * 1.1 + 5e-4).bfloat16()
    assert broken(shifted, lambda x: x * 1.1, (x,)) == {"bias"}


@pytest.mark.parametrize("dtype", REDUCED)
def test_a_reduced_precision_accumulator_is_killed_by_rms(dtype):
    x, w = linear_inputs(dtype, 0)
    total = torch.zeros(17, 40, dtype=dtype)
    for i in range(96):
        total = total + x[:, i : i + 1] * w[i]
    assert "rms" in broken(total, linear, (x, w))


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_mask_off_by_one_is_killed(shift):
    inputs = attention_inputs(torch.bfloat16, 0)
    assert {"max", "rms"} <= broken(torch.nan_to_num(attention(*inputs, last=shift)), attention, inputs)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_a_leak_is_killed_by_the_mask_rule_and_stays_finite(poison):
    inputs = linear_inputs(torch.bfloat16, 0)
    leaked = linear(*inputs)
    leaked[3, 5] = poison
    reference = linear(*(x.double() for x in inputs))
    found = judge(leaked, reference, linear(*inputs), level="op", subject="op", name="out")
    assert [(c.rule, c.error, c.where) for c in found if not c.passed] == [("mask", 1, "(3, 5)")]


def test_infinities_of_the_right_sign_and_nans_agree():
    r = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf, 1e6], dtype=torch.float64)
    good = r.half()
    assert good[4] == torch.inf
    verdict = {c.rule: c for c in judge(good, r, good, level="op", subject="op", name="out")}
    assert all(check.passed for check in verdict.values())
    flipped = torch.where(torch.isinf(good), -good, good)
    wrong = {c.rule: c.error for c in judge(flipped, r, good, level="op", subject="op", name="out") if not c.passed}
    assert wrong == {"mask": 3}


@pytest.mark.parametrize("dtype", REDUCED)
def test_answers_that_round_apart_pass_where_one_large_element_rules_a_slice(dtype):
    """The large products of heavy tails outweigh all beside them, and plain code may by luck have them right."""
    for seed in range(150):
        g = torch.Generator().manual_seed(seed)
        gate, up = torch.randn(2, 24, 40, generator=g, dtype=torch.float64)
        r = torch.nn.functional.silu(gate) * up
        # Half a unit in the last place off, at most, before each rounds.
        o, p = ((r * (1 + (torch.rand(r.shape, generator=g) - 0.5) * torch.finfo(dtype).eps)).to(dtype) for _ in "op")
        check = worst(judge(o, r, p, level="op", subject="swiglu", name=str(seed)))
        assert check.passed, f"{check.rule} {check.where}, {check.usage:.2f} of its limit in draw {seed}"


@pytest.mark.parametrize("dtype", [*REDUCED, torch.float32])
def test_zero_noise_forgives_nothing_and_alarms_at_nothing(dtype):
    zeros = torch.zeros(3, 5, dtype=dtype)
    nearly = zeros.clone()
    nearly[1, 2] = 1e-6
    assert not broken(zeros, lambda x: x, (zeros,))
    assert {"max", "rms", "slices"} <= broken(nearly, lambda x: x, (zeros,))
    halves = torch.full((1,), 0.5, dtype=dtype)
    assert not broken(halves, lambda x: x, (halves,))
    assert "max" in broken(halves * 1.01, lambda x: x, (halves,))


@pytest.mark.parametrize("dtype", [*REDUCED, torch.float32])
@pytest.mark.parametrize("edge", ["max", "smallest_normal", "smallest_subnormal"])
def test_the_edges_of_the_range_are_judged(dtype, edge):
    info = torch.finfo(dtype)
    step = info.smallest_normal * info.eps
    unit = {"max": info.max / 8, "smallest_normal": info.smallest_normal, "smallest_subnormal": step}[edge]
    x = (torch.arange(-7, 8, dtype=torch.float64) * unit).to(dtype)
    assert not broken(x.clone(), lambda x: x * 1.0, (x,))
    flushed = torch.where(x.abs() < x.abs().max(), 0.0, x)
    assert "rms" in broken(flushed, lambda x: x * 1.0, (x,))


def test_structure_is_judged_first_and_alone():
    x = torch.ones(2, 3)
    for candidate in (x.bfloat16(), x[:1], x.T):
        (check,) = judge(candidate, x.double(), x, level="op", subject="op", name="out")
        assert (check.rule, check.passed) == ("structure", False)
        assert "instead of" in check.where


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_exact_counts_bits_and_ulps_and_forgives_nan_payloads(dtype):
    want = torch.tensor([1.0, -2.0, torch.nan, 0.0]).to(dtype)
    judged = {"level": "op", "subject": "op", "name": "out", "exact": True}
    negative_nan = want.float()
    negative_nan[2] = -negative_nan[2]
    assert all(check.passed for check in judge(negative_nan.to(dtype), want, want, **judged))
    near = want.float().clone()
    near[0], near[3] = 1 + 2 * torch.finfo(dtype).eps, -0.0
    check = worst(judge(near.to(dtype), want, want, **judged))
    assert (check.rule, check.error, check.where) == ("exact", 2, "(0,) ulp=2")


def test_integer_results_are_exact_without_asking():
    want = torch.arange(6).view(2, 3)
    near = want.clone()
    near[1, 0] += 1
    check = worst(judge(near, want, want, level="op", subject="op", name="ids"))
    assert (check.rule, check.error, check.where) == ("exact", 1, "(1, 0)")


def test_a_dtype_without_limits_is_refused():
    x = torch.ones(3, dtype=torch.float64)
    with pytest.raises(HarnessError, match="no calibrated limits"):
        judge(x, x, x, level="op", subject="op", name="out")


def test_chunking_changes_nothing(monkeypatch):
    inputs = norm_inputs(torch.bfloat16, 0)
    out = dropped_tail(rms_norm_wide_weight(*inputs))
    args = (out, rms_norm(*(x.double() for x in inputs)), rms_norm(*inputs))
    whole = judge(*args, level="op", subject="op", name="out")
    monkeypatch.setattr(error_statistics, "CHUNK_ELEMENTS", 100)
    pieces = judge(*args, level="op", subject="op", name="out")
    for one, other in zip(whole, pieces, strict=True):
        assert (one.rule, one.where) == (other.rule, other.where)
        assert one.error == pytest.approx(other.error, rel=1e-9, abs=1e-15)
        assert one.limit == pytest.approx(other.limit, rel=1e-9)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (0, 4)])
def test_small_and_empty_shapes(shape):
    x = torch.full(shape, 0.3)
    assert not broken(x.clone(), lambda x: x, (x,))


def test_relative_frobenius():
    r = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert relative_frobenius(r.float() + 0.5, r) == pytest.approx(0.5 * 2**0.5 / 5)
    assert relative_frobenius(r * 0, r * 0) == 0.0
    assert relative_frobenius(r, r * 0) == float("inf")


def test_a_failure_tells_along_which_axis_which_indices_are_wrong() -> None:
    plain = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    wrong = plain.clone()
    wrong[:, 8:12] *= 1.5
    checks = judge(wrong, plain.double(), plain, level="layer", subject="layer 0", name="made")
    assert span(checks).split(" ", 2)[::2] == ["axis=1", "(4 of 40 wrong, 8 to 11)"]
    assert span(judge(plain, plain.double(), plain, level="layer", subject="layer 0", name="made")) == ""


@pytest.mark.parametrize(
    ("reference", "plain", "candidate", "wrong"),
    [
        (-65518.5, -torch.inf, -torch.inf, 0),
        (65521.0, 65504.0, 65504.0, 0),
        (-65518.5, -torch.inf, torch.inf, 1),
        (-65518.5, -65504.0, -torch.inf, 1),
        (60000.0, torch.inf, torch.inf, 1),
        (65521.0, 65504.0, 3.0, 1),
        (1.0, torch.nan, torch.nan, 1),
    ],
)
def test_overflow_is_forgiven_beside_the_largest_number_alone_and_as_plain_code_has_it(
    reference, plain, candidate, wrong
):
    values = torch.linspace(-1, 1, 64, dtype=torch.float64)

    def beside(x, dtype=torch.float16):
        return torch.cat((values, torch.tensor([x], dtype=torch.float64))).to(dtype)

    found = judge(beside(candidate), beside(reference, torch.float64), beside(plain), level="op", subject="k", name="o")
    (mask,) = (check for check in found if check.rule == "mask")
    assert mask.error == wrong
