"""Weights in fewer bits: how a matrix becomes codes and scales, and what the codes stand for. Pure torch.

Scales keep so few significant bits that code times scale has at most eight, a bfloat16's: the dequantized weight is
exact in bfloat16, in float32, and in float16 above its smallest numbers. So a kernel may scale its sums instead of its
weights, a matrix product may use the dequantized weights, and both compute with the very same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.spec.mutant import Mutant
from models.common.linear.eager import project
from models.common.quantization.scheme_mutations import FP8_MUTANTS, INT4_MUTANTS, INT8_MUTANTS

GROUP = 128
"""Input channels that share a scale and a zero point in four bits."""
HALF = GROUP // 2
INT8_MAX, FP8_MAX, INT4_MAX = 127, 448, 15
SMALLEST = torch.finfo(torch.float32).smallest_normal
"""Of the scales: one below it would have fewer significant bits, and be 0 where such numbers are flushed."""


@dataclass(frozen=True)
class Codes:
    """A matrix [N, K] in fewer bits."""

    codes: Tensor
    """[N, K] int8 or float8_e4m3fn; in four bits [N, groups * 64] uint8: byte j of a group holds its channel j in the
    low half and its channel j + 64 in the high half, and the last group is filled up with channels of weight 0."""
    scales: Tensor
    """float32: [N], or [N, groups] in four bits."""
    zeros: Tensor | None = None
    """[N, groups] uint8, the code of weight 0, in four bits."""


@dataclass(frozen=True)
class Scheme:
    """`quantize` takes a matrix [N, K] of finite values; `dequantize` takes its codes, K and a dtype."""

    name: str
    quantize: Callable[[Tensor], Codes]
    dequantize: Callable[[Codes, int, torch.dtype], Tensor]
    bytes: Callable[[int, int], int]
    """N, K -> bytes of the codes, scales and zero points together."""
    distance: Callable[[Tensor], Tensor]
    """A matrix [N, K] -> [N, K] float32: how far the nearest codes may be from its values, at most. It follows from
    the numbers of the scheme and not from the codes, so that wrong ones are seen."""
    mutants: tuple[Mutant, ...] = ()
    """Faults of this scheme."""

    def rounded(self, weight: Tensor) -> Tensor:
        """What a matrix [N, K] becomes, in its own dtype."""
        return self.dequantize(self.quantize(weight), weight.shape[1], weight.dtype)

    def bound(self, weight: Tensor) -> Tensor:
        """A matrix [N, K] -> [N, K] float32: how far `rounded` may move its values, at most; what the codes stand for
        is written in the matrix's dtype, whose smallest numbers are as far apart as they are large."""
        numbers = torch.finfo(weight.dtype)
        return self.distance(weight) + numbers.smallest_normal * numbers.eps / 2


def coarse(scale: Tensor, bits: int) -> Tensor:
    """The smallest number of `bits` significant bits below neither `scale` (float32, not negative) nor SMALLEST; 1
    for 0."""
    mantissa, exponent = torch.frexp(scale.clamp(min=SMALLEST))
    return torch.where(scale > 0, torch.ldexp((mantissa * 2**bits).ceil() / 2**bits, exponent), 1.0)


def quantize_int8(weight: Tensor) -> Codes:
    """One scale for each output channel, a power of two: seven bits of code leave no more."""
    values = _finite(weight)
    scales = coarse(values.abs().amax(1) / INT8_MAX, 1)
    return Codes((values / scales[:, None]).round().to(torch.int8), scales)


def quantize_fp8(weight: Tensor) -> Codes:
    """float8_e4m3fn with one scale of four bits for each output channel."""
    values = _finite(weight)
    scales = coarse(values.abs().amax(1) / FP8_MAX, 4)
    return Codes((values / scales[:, None]).to(torch.float8_e4m3fn), scales)


def quantize_int4(weight: Tensor) -> Codes:
    """Codes 0 to 15 with a scale of four bits and a zero point for each group of 128 input channels."""
    values = _finite(weight)
    padded = F.pad(values, (0, -values.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    low, high = padded.amin(2).clamp(max=0), padded.amax(2).clamp(min=0)
    scales = coarse((high - low) / INT4_MAX, 4)
    zeros = (-low / scales).round()
    codes = ((padded / scales[..., None]).round() + zeros[..., None]).clamp(0, INT4_MAX).to(torch.uint8)
    packed = codes[..., :HALF] | codes[..., HALF:] << 4
    return Codes(packed.flatten(1).contiguous(), scales, zeros.to(torch.uint8))


def dequantize_channels(held: Codes, k: int, dtype: torch.dtype) -> Tensor:
    """codes [N, K] times scales [N] -> [N, K]."""
    return scaled(held.codes, held.scales, dtype)


def dequantize_groups(held: Codes, k: int, dtype: torch.dtype) -> Tensor:
    """Packed codes -> [N, K] without the channels that only fill the last group."""
    assert held.zeros is not None
    return unpacked(held.codes, held.scales, held.zeros, k, dtype)


def scaled(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """codes [N, K], scales [N] -> [N, K]; the product is formed in the scales' dtype."""
    return (codes.to(scales.dtype) * scales[:, None]).to(dtype)


def unpacked(codes: Tensor, scales: Tensor, zeros: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """As `scaled` for packed codes [N, groups * 64], scales and zeros [N, groups] -> [N, k]."""
    grouped = codes.unflatten(1, (-1, HALF))
    whole = torch.cat([grouped & INT4_MAX, grouped >> 4], 2).to(scales.dtype)
    values = (whole - zeros.to(scales.dtype)[..., None]) * scales[..., None]
    return values.flatten(1)[:, :k].to(dtype)


def project_scaled(
    x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None = None, rounded: bool = True
) -> dict[str, Tensor]:
    """As linear.project with the dequantized weight."""
    return project(x, scaled(codes, scales, x.dtype), bias, rounded)


def project_unpacked(
    x: Tensor, codes: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor | None = None, rounded: bool = True
) -> dict[str, Tensor]:
    """As project_scaled, for four bits."""
    return project(x, unpacked(codes, scales, zeros, x.shape[1], x.dtype), bias, rounded)


def int8_distance(weight: Tensor) -> Tensor:
    """Half of a step that is less than twice as wide as 127 of them to the largest weight would be."""
    return _widest(weight.float().abs().amax(1, keepdim=True) / INT8_MAX * 2).expand(weight.shape) / 2


def fp8_distance(weight: Tensor) -> Tensor:
    """Half of the last of three binary places; of the smallest numbers, half of their spacing of 2^-9."""
    values = weight.float().abs()
    return torch.maximum(values / 16, _widest(values.amax(1, keepdim=True) / FP8_MAX * 1.125) * 2**-10)


def int4_distance(weight: Tensor) -> Tensor:
    """A step that is at most an eighth wider than a fifteenth of its group's range: half of one is rounded away, and
    half by the zero point."""
    padded = F.pad(weight.float(), (0, -weight.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    spread = padded.amax(2).clamp(min=0) - padded.amin(2).clamp(max=0)
    return _widest(spread / INT4_MAX * 1.125).repeat_interleave(GROUP, 1)[:, : weight.shape[1]]


def channel_bytes(n: int, k: int) -> int:
    """A byte a weight and a scale of four a row."""
    return n * (k + 4)


def group_bytes(n: int, k: int) -> int:
    """Half a byte a weight, and five bytes of scale and zero point, for each group."""
    return n * math.ceil(k / GROUP) * (HALF + 5)


def _widest(scale: Tensor) -> Tensor:
    """The largest scale that `coarse` may give, from the largest that its bits may make of what was asked."""
    return scale.clamp(min=SMALLEST)


def _finite(weight: Tensor) -> Tensor:
    values = weight.float()
    if not bool(torch.isfinite(values).all()):
        raise ValueError("a weight that is not finite has no code: its whole channel would be lost")
    return values


INT8 = Scheme("int8", quantize_int8, dequantize_channels, channel_bytes, int8_distance, INT8_MUTANTS)
FP8 = Scheme("fp8", quantize_fp8, dequantize_channels, channel_bytes, fp8_distance, FP8_MUTANTS)
INT4 = Scheme("int4", quantize_int4, dequantize_groups, group_bytes, int4_distance, INT4_MUTANTS)
