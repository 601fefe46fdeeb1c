"""Linear layers that hold their weights in fewer bits: few activation rows go through the decode kernels, many meet the
dequantized weights, a part of them at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.spec import Kernel, Numerics, Optimization, Receipt, Rounding, Target
from models.common.kernels.early import offers
from models.common.kernels.gemv import GemvShape, default_shape, gemv_scaled, interpreted_shape, needs
from models.common.kernels.quantized_gemv import gemv_int4
from models.common.kernels.workspace import Workspace
from models.common.linear import PackedLinear, pack_neighbors
from models.common.quantized import Codes, Scheme

HEAD = "lm_head"
MATRICES = ("_proj.weight", f"{HEAD}.weight")
"""How the names of linear layers' matrices end in every build."""
CHUNK_BYTES = 1 << 26
"""Dequantized weights that exist at one time."""


class QuantizedLinear(nn.Module):
    """As the nn.Linear it is made from, its weight rounded by `scheme`. Up to `rows` activation rows (0: none) go
    through the decode kernels, whose split sums share `workspace`."""

    def __init__(self, layer: nn.Linear | PackedLinear, scheme: Scheme, rows: int, workspace: Workspace) -> None:
        super().__init__()
        held = scheme.quantize(layer.weight)
        self.codes, self.scales = nn.Buffer(held.codes), nn.Buffer(held.scales)
        self.zeros = None if held.zeros is None else nn.Buffer(held.zeros)
        self.bias, self.inputs = layer.bias, layer.weight.shape[1]
        self.scheme, self.rows, self.workspace = scheme, rows, workspace

    def forward(self, x: Tensor) -> Tensor:
        """x [..., K] -> [..., N]."""
        flat = x.reshape(-1, self.inputs)
        out = self._few(flat) if flat.shape[0] <= self.rows else self._many(flat)
        return out.view(*x.shape[:-1], -1)

    def _few(self, x: Tensor) -> Tensor:
        if self.zeros is not None:
            return gemv_int4(x, self.codes, self.scales, self.zeros, self.bias)["out"]
        shape = byte_shape(x.shape[0], self.codes.shape[0], self.inputs, x.device)
        return gemv_scaled(x, self.codes, self.scales, self.bias, shape, self.workspace)["out"]

    def _many(self, x: Tensor) -> Tensor:
        step = max(1, CHUNK_BYTES // (self.inputs * x.element_size()))
        parts = []
        for start in range(0, self.codes.shape[0], step):
            rows = slice(start, start + step)
            held = Codes(self.codes[rows], self.scales[rows], None if self.zeros is None else self.zeros[rows])
            weight = self.scheme.dequantize(held, self.inputs, x.dtype)
            parts.append(F.linear(x, weight, None if self.bias is None else self.bias[rows]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class QuantizedPacked(nn.Module):
    """As the PackedLinear it is made from, rounded."""

    def __init__(self, packed: PackedLinear, scheme: Scheme, rows: int, workspace: Workspace) -> None:
        super().__init__()
        self.whole, self.sizes = QuantizedLinear(packed, scheme, rows, workspace), packed.sizes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [..., K] -> one tensor [..., size] per packed layer, views of one result."""
        return self.whole(x).split(self.sizes, dim=-1)


def byte_shape(m: int, n: int, k: int, device: torch.device) -> GemvShape:
    """How a product with weights of one byte is cut; it starts early where the device can."""
    if device.type == "cpu":
        return interpreted_shape(m, n, k, 1)
    return replace(default_shape(m, n, k, 1), pdl=offers(device))


@dataclass(frozen=True)
class Choice:
    """Which scheme holds the layers' matrices, and which the projection to the vocabulary."""

    layers: Scheme
    head: Scheme
    rows: int
    """Activation rows up to which the decode kernels are used where they run."""

    def of(self, name: str) -> Scheme:
        return self.head if name.startswith(HEAD) else self.layers


def quantize(model: nn.Module, choice: Choice, target: Target) -> tuple[str, ...]:
    """Neighbors packed, then every packed and every linear layer of `model` rounded; returns the paths replaced."""
    packed = pack_neighbors(model)
    rows = 0 if target.kernels == "none" else choice.rows
    layers = [(path, m) for path, m in model.named_modules() if type(m) in (PackedLinear, nn.Linear)]
    workspace = _workspace([layer.weight for _, layer in layers], rows, target.device)
    for path, layer in layers:
        kind = QuantizedPacked if type(layer) is PackedLinear else QuantizedLinear
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, kind(layer, choice.of(path), rows, workspace))
    return packed + tuple(path for path, _ in layers if path not in packed)


def rounding(choice: Choice) -> Rounding:
    """What `quantize` makes of a model's parameters: the matrices of linear layers, known by their names."""

    def weight(name: str, value: Tensor) -> Tensor:
        return choice.of(name).rounded(value) if name.endswith(MATRICES) else value

    def held_bytes(name: str, value: Tensor) -> int:
        return choice.of(name).bytes(*value.shape) if name.endswith(MATRICES) else value.nbytes

    return Rounding(weight, held_bytes)


def weight_only(
    name: str, numerics: Numerics, choice: Choice, kernels: tuple[Kernel, ...], conflicts: tuple[str, ...]
) -> Optimization:
    """The optimization that holds every linear layer as `choice` says and reads it so in decode steps."""
    summary = f"linear layers in {choice.layers.name}, the head in {choice.head.name}; decode steps stream the codes"

    def apply(model: nn.Module, target: Target) -> Receipt:
        used = f"decode kernels up to {choice.rows} rows" if target.kernels != "none" else "no decode kernels"
        return Receipt(name, quantize(model, choice, target), (summary, used))

    return Optimization(
        name=name,
        summary=summary,
        numerics=numerics,
        apply=apply,
        kernels=kernels,
        conflicts=conflicts,
        rounding=rounding(choice),
    )


def _workspace(weights: list[Tensor], rows: int, device: torch.device) -> Workspace:
    floats, tickets = 0, 0
    for weight in weights:
        n, k = weight.shape
        for m in range(2, rows + 1):
            size = needs(m, n, byte_shape(m, n, k, device))
            floats, tickets = max(floats, size[0]), max(tickets, size[1])
    return Workspace.allocate(floats, tickets, device)
