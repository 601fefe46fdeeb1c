"""Projections that read their weights as one stream while there are few activation rows, and leave many to torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.spec.parameter import Parameter
from models.common.decoder.swap import swap
from models.common.kernels.workspace import Workspace
from models.common.linear.eager import PackedLinear, sums
from models.common.linear.gemv import MAX_ROWS, GemvShape, default_shape, gemv, gemv_swiglu, needs
from models.common.mlp.eager import SwiGLU

Shapes = Callable[[int, int, int, int, bool], GemvShape]
"""(rows, outputs, sum length, element size, paired) -> how the launch is cut."""


def max_rows(default: int) -> Parameter:
    """Declare how many activation rows the decode kernels take."""
    allowed = range(1, MAX_ROWS + 1)
    return Parameter("rows", default, allowed, "Most activation rows that the decode kernels take.")


def gemv_workspace(weights: Iterable[Tensor], rows: int, shapes: Shapes = default_shape) -> Workspace:
    """One workspace for every module below with these weights, up to `rows` activation rows and on one stream."""
    floats, tickets, device = 0, 0, torch.device("cpu")
    for weight in weights:
        (n, k), device = weight.shape, weight.device
        for outputs, paired in ((n, False), (n // 2, True)):
            for m in range(2, rows + 1):
                size = needs(m, outputs, shapes(m, outputs, k, weight.element_size(), paired), paired)
                floats, tickets = max(floats, size[0]), max(tickets, size[1])
    return Workspace.allocate(floats, tickets, device)


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _checked(rows: int) -> int:
    if not 1 <= rows <= MAX_ROWS:
        raise ValueError(f"a threshold of {rows} rows: the kernel serves 1 to {MAX_ROWS}")
    return rows


class SkinnyLinear(nn.Module):
    """As the nn.Linear it is made from, whose parameters it shares under the same names."""

    def __init__(self, layer: nn.Linear, rows: int, workspace: Workspace, shapes: Shapes = default_shape) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.rows, self.workspace, self.shapes = _checked(rows), workspace, shapes

    def forward(self, x: Tensor, rounded: bool = True) -> Tensor:
        """x [..., K] -> [..., N]; through the kernel up to `rows` activation rows. As `linear.sums` where it is not to
        be rounded."""
        return _project(x, self.weight, self.bias, self.rows, self.workspace, self.shapes, rounded)


class SkinnyPacked(nn.Module):
    """As the PackedLinear it is made from, sharing its matrix."""

    def __init__(self, packed: PackedLinear, rows: int, workspace: Workspace, shapes: Shapes = default_shape) -> None:
        super().__init__()
        self.weight, self.bias, self.sizes = packed.weight, packed.bias, packed.sizes
        self.rows, self.workspace, self.shapes = _checked(rows), workspace, shapes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [..., K] -> one tensor [..., size] per packed layer, views of one result."""
        return _project(x, self.weight, self.bias, self.rows, self.workspace, self.shapes).split(self.sizes, dim=-1)


class SkinnyGated(nn.Module):
    """silu(gate(x)) * up(x) of a PackedLinear of gate and up, without bias: x [..., K] -> [..., I]. More than `rows`
    activation rows take a matrix product, and `gate` after it."""

    def __init__(
        self, packed: PackedLinear, gate: nn.Module, rows: int, workspace: Workspace, shapes: Shapes = default_shape
    ) -> None:
        super().__init__()
        if packed.bias is not None or len(packed.sizes) != 2 or packed.sizes[0] != packed.sizes[1]:
            raise ValueError(
                "gate and up must be two matrices of one size without bias, or rows would be paired wrongly"
            )
        self.weight, self.gate = packed.weight, gate
        self.rows, self.workspace, self.shapes = _checked(rows), workspace, shapes

    def forward(self, x: Tensor) -> Tensor:
        flat = _flat(x)
        if flat.shape[0] > self.rows:
            gate, up = F.linear(x, self.weight).chunk(2, -1)
            return self.gate(gate, up)
        outputs, k = self.weight.shape[0] // 2, flat.shape[1]
        shape = self.shapes(flat.shape[0], outputs, k, flat.element_size(), True)
        return gemv_swiglu(flat, self.weight, shape, self.workspace)["out"].view(*x.shape[:-1], -1)


class SkinnySwiGLU(nn.Module):
    """As the SwiGLU it is made from, whose gate_up is packed: down(gated(x))."""

    def __init__(self, eager: SwiGLU, rows: int, workspace: Workspace, shapes: Shapes = default_shape) -> None:
        super().__init__()
        if not isinstance(eager.gate_up, PackedLinear):
            raise ValueError("gate and up must be packed into one matrix before one launch can read both")
        self.gated = SkinnyGated(eager.gate_up, eager.gate, rows, workspace, shapes)
        self.down_proj = eager.down_proj

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.gated(x))


def _project(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: int,
    workspace: Workspace,
    shapes: Shapes,
    rounded: bool = True,
) -> Tensor:
    flat = _flat(x)
    if flat.shape[0] > rows:
        return F.linear(x, weight, bias) if rounded else sums(x, weight, bias)
    shape = shapes(flat.shape[0], weight.shape[0], flat.shape[1], flat.element_size(), False)
    return gemv(flat, weight, bias, shape, workspace, rounded)["out"].view(*x.shape[:-1], -1)


def stream(model: nn.Module, rows: int, shapes: Shapes) -> tuple[str, ...]:
    """Every gated block, packed projection and linear layer of `model` reads its weights through the decode kernels up
    to `rows` activation rows, silu and its product in the kernel of gate and up. Returns the paths replaced."""
    weights = [module.weight for module in model.modules() if isinstance(module, PackedLinear | nn.Linear)]
    workspace = gemv_workspace(weights, rows, shapes)
    touched = swap(model, SwiGLU, lambda m: SkinnySwiGLU(m, rows, workspace, shapes))
    touched += swap(model, PackedLinear, lambda m: SkinnyPacked(m, rows, workspace, shapes))
    return touched + swap(model, nn.Linear, lambda m: SkinnyLinear(m, rows, workspace, shapes))
