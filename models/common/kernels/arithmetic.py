"""Small Triton functions that several kernels share."""

from __future__ import annotations

import triton
import triton.language as tl


def interpreted() -> bool:
    """Whether this process interprets Triton. Its interpreter multiplies half-precision matrices element by element;
    widened operands give the same products and sums through BLAS."""
    return bool(triton.knobs.runtime.interpret)


@triton.jit
def product(a, b, total, WIDEN: tl.constexpr):
    """total + a @ b, summed in float32; float32 operands are not rounded to tf32."""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")


@triton.jit
def exp(x):
    """e to the x, float32, to about 2 units in the last place: x is split into a multiple of log(2), whose product with
    the short constant is exact, and a rest; exp2(x * log2(e)) would multiply its rounding error by |x|. x saturates at
    -200 and 200."""
    x = tl.minimum(tl.maximum(x, -200.0), 200.0)
    whole = tl.floor(x * 1.44269504 + 0.5)
    rest = (x - whole * 0.693359375) + whole * 2.12194440e-4
    return tl.exp2(whole) * tl.exp2(rest * 1.44269504)


@triton.jit
def silu(x, dtype: tl.constexpr):
    """x * sigmoid(x) rounded to dtype, given back in float32."""
    return (x / (1.0 + exp(-x))).to(dtype).to(tl.float32)
