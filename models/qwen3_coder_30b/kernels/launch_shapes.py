"""Launch shapes of this model's decode products on an H200, carried over from the nearest sizes of a sweep
(python -m harness.tune.launch_shapes): short sums take the shape found for 2560, long ones that for 4096."""

from __future__ import annotations

from models.common.linear.gemv import GemvShape, default_shape

ONE_ROW = {
    (5120, 2048): GemvShape(2, 256, 1, 1, unroll=2, ahead=512, pdl=True),
    (2048, 4096): GemvShape(2, 1024, 4, 1, unroll=2, ahead=512, pdl=True),
    (151936, 2048): GemvShape(8, 512, 2, 4, pdl=True),
}
"""(outputs, sum length) -> shape for one activation row."""


def h200_shape(m: int, n: int, k: int, element_size: int, paired: bool) -> GemvShape:
    """The shape of a half-precision product of the full size, the default for any other."""
    known = ONE_ROW.get((n, k)) if m == 1 and element_size == 2 else None
    return known or default_shape(m, n, k, element_size, paired)
