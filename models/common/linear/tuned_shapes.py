"""Cut the decode products of one model as measured for it on a device of that name, and by default elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from harness.spec.optimization import Target
from models.common.kernels.launch_shapes import LaunchShapes
from models.common.linear.gemv import GemvShape, default_shape, interpreted_shape
from models.common.linear.skinny import Shapes


def product_sizes(m: int, n: int, k: int, element_size: int) -> Mapping[str, int]:
    """Name the sizes of a product of m activation rows of length k with n outputs, as launch_shapes.json does."""
    return {"rows": m, "outputs": n, "sum": k, "element_bytes": element_size}


def product_shapes(tuned: LaunchShapes, target: Target) -> Shapes:
    """Return what cuts each product on the target."""
    if target.kernels == "interpreted":
        return interpreted_shape
    if not tuned.fit(target.device):
        return default_shape

    def shape(m: int, n: int, k: int, element_size: int, paired: bool) -> GemvShape:
        found = tuned.find("gemv_swiglu" if paired else "gemv", product_sizes(m, n, k, element_size))
        return GemvShape(**found) if found else default_shape(m, n, k, element_size, paired)

    return shape
