"""Launch shapes of this model's decode products on an H200, the fastest of a sweep of about 30 each
(python -m harness.tune.launch_shapes; benchmark_results/h200/sweeps/decode-shapes-20261123.json)."""

from __future__ import annotations

from models.common.linear.gemv import GemvShape, default_shape

ONE_ROW = {
    (6144, 2560): GemvShape(2, 256, 1, 1, unroll=2, ahead=512, pdl=True),
    (2560, 4096): GemvShape(2, 1024, 4, 1, unroll=2, ahead=512, pdl=True),
    (9728, 2560): GemvShape(2, 512, 2, 1, unroll=2, ahead=512, pdl=True),
    (2560, 9728): GemvShape(2, 1024, 4, 1, unroll=2, ahead=512, pdl=True),
    (151936, 2560): GemvShape(8, 512, 2, 5, pdl=True),
}
"""(outputs, sum length) -> shape for one activation row. 9728 outputs of SwiGLU read two weight rows each."""
FEW_ROWS = {
    (6144, 2560): GemvShape(128, 128, 8, 4, split_k=2),
    (2560, 4096): GemvShape(64, 128, 4, 3, split_k=8),
    (9728, 2560): GemvShape(64, 128, 4, 3),
    (2560, 9728): GemvShape(64, 128, 4, 3, split_k=8),
    (151936, 2560): GemvShape(128, 128, 8, 3),
}
"""The same for 2 to 16 rows, measured at 8."""


def h200_shape(m: int, n: int, k: int, element_size: int, paired: bool) -> GemvShape:
    """The measured shape of a half-precision product of the full size, the default for any other."""
    measured = (ONE_ROW if m == 1 else FEW_ROWS).get((n, k)) if element_size == 2 else None
    return measured or default_shape(m, n, k, element_size, paired)
