"""Weights in fewer bits: every code, scale and zero point against a plain loop; what is dequantized is exact."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.common.quantization.schemes import FP8, GROUP, INT4, INT8, Scheme, coarse

SCHEMES = pytest.mark.parametrize("scheme", [INT8, FP8, INT4], ids=lambda scheme: scheme.name)


def weight(n: int = 5, k: int = 300) -> Tensor:
    drawn = torch.randn(n, k, generator=torch.Generator().manual_seed(0))
    return (drawn * torch.logspace(-4, 1, n)[:, None]).bfloat16()


def rounded_up(value: float, bits: int) -> float:
    step = 2.0 ** (math.floor(math.log2(value)) + 1 - bits)
    return math.ceil(value / step) * step


def test_int8_codes_and_scales_are_those_of_a_loop() -> None:
    held = INT8.quantize(weight())
    for row, values in enumerate(weight().tolist()):
        scale = rounded_up(max(map(abs, values)) / 127, 1)
        assert held.scales[row] == scale
        assert held.codes[row].tolist() == [round(value / scale) for value in values]


def test_fp8_scales_are_those_of_a_loop_and_codes_are_nearest() -> None:
    held = FP8.quantize(weight())
    every = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).double()
    every = every[every.isfinite()]
    for row, values in enumerate(weight().double()):
        scale = rounded_up(float(values.abs().max()) / 448, 4)
        assert held.scales[row] == scale
        off = (held.codes[row].double() * scale - values).abs()
        assert torch.equal(off, (every[:, None] * scale - values).abs().amin(0))


def test_int4_codes_scales_and_zeros_are_those_of_a_loop() -> None:
    held = INT4.quantize(weight())
    assert held.zeros is not None
    assert held.codes.shape == (5, 3 * GROUP // 2)
    for row, values in enumerate(weight().tolist()):
        for group in range(3):
            part = values[group * GROUP : (group + 1) * GROUP]
            low, high = min(0.0, *part), max(0.0, *part)
            scale = rounded_up((high - low) / 15, 4)
            zero = round(-low / scale)
            assert (held.scales[row, group], held.zeros[row, group]) == (scale, zero)
            codes = [min(15, max(0, round(value / scale) + zero)) for value in part]
            codes += [zero] * (GROUP - len(part))
            packed = [codes[j] | codes[j + 64] << 4 for j in range(64)]
            assert held.codes[row, group * 64 : (group + 1) * 64].tolist() == packed


@SCHEMES
def test_dequantized_weights_are_exact_in_bfloat16_and_near_what_they_stand_for(scheme: Scheme) -> None:
    given = weight()
    single = scheme.dequantize(scheme.quantize(given), given.shape[1], torch.float32)
    assert torch.equal(single, single.bfloat16().float())
    assert torch.equal(scheme.rounded(given).float(), single)
    error = (single - given.float()).norm(dim=1) / given.float().norm(dim=1)
    assert 1e-3 < float(error.max()) < {"int8": 0.02, "fp8": 0.04, "int4": 0.12}[scheme.name]


@SCHEMES
def test_rows_of_zeros_stay_zero_and_values_without_a_code_are_refused(scheme: Scheme) -> None:
    assert not scheme.rounded(torch.zeros(2, 130)).any()
    with pytest.raises(ValueError, match="not finite"):
        scheme.quantize(torch.tensor([[1.0, float("inf")]]))


@SCHEMES
@pytest.mark.parametrize("k", [256, 300])
def test_bytes_are_those_of_everything_that_is_held(scheme: Scheme, k: int) -> None:
    held = scheme.quantize(weight(5, k))
    assert scheme.bytes(5, k) == sum(t.nbytes for t in (held.codes, held.scales, held.zeros) if t is not None)


def test_coarse_scales_are_never_below_what_was_asked() -> None:
    asked = torch.tensor([0.0, 1.0, 1.01, 0.75, 3e-6])
    assert coarse(asked, 1).tolist() == [1.0, 1.0, 2.0, 1.0, 2.0**-18]
    assert coarse(asked, 4)[:4].tolist() == [1.0, 1.0, 1.125, 0.75]


def largest_move(scheme: Scheme) -> float:
    """In units of the bound, over rows whose largest weight is anywhere between two powers of two."""
    drawn = torch.randn(2000, 256, generator=torch.Generator().manual_seed(1))
    drawn = drawn / drawn.abs().amax(1, keepdim=True) * torch.linspace(1, 2, 2000)[:, None]
    return float(((scheme.rounded(drawn) - drawn).abs() / scheme.bound(drawn)).max())


@SCHEMES
def test_no_weight_moves_farther_than_the_nearest_code_can_be(scheme: Scheme) -> None:
    assert 0.4 < largest_move(scheme) <= 1.0001


def test_a_code_that_wraps_around_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.common.quantization.schemes.INT8_MAX", 128)
    assert largest_move(INT8) > 100
