"""Launch shapes of this model's decode products on an H200, carried over from the nearest sizes of a sweep
(python -m harness.tune.launch_shapes): sums up to 5120 take the shape found for 2560, longer ones that for 9728."""

from __future__ import annotations

from models.common.linear.gemv import GemvShape, default_shape

ONE_ROW = {
    (14336, 5120): GemvShape(2, 512, 2, 1, unroll=2, ahead=512, pdl=True),
    (5120, 12288): GemvShape(2, 1024, 4, 1, unroll=2, ahead=512, pdl=True),
    (12288, 5120): GemvShape(2, 512, 2, 1, unroll=2, ahead=512, pdl=True),
    (1536, 5120): GemvShape(2, 512, 2, 1, unroll=2, ahead=512, pdl=True),
    (5120, 1536): GemvShape(2, 256, 1, 1, unroll=2, ahead=512, pdl=True),
    (151552, 5120): GemvShape(8, 512, 2, 5, pdl=True),
}
"""(outputs, sum length) -> shape for one activation row. 12288 and 1536 outputs of SwiGLU read two weight rows each."""


def h200_shape(m: int, n: int, k: int, element_size: int, paired: bool) -> GemvShape:
    """The shape of a half-precision product of the full size, the default for any other."""
    known = ONE_ROW.get((n, k)) if m == 1 and element_size == 2 else None
    return known or default_shape(m, n, k, element_size, paired)
