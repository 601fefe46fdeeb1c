"""Linear layers that hold their weights in fewer bits: few activation rows go through the decode kernels, many meet the
dequantized weights, a part of them at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from harness.spec.kernel import Kernel
from harness.spec.optimization import Edges, Numerics, Optimization, Receipt, Target
from models.common.kernels.pdl import offers
from models.common.kernels.workspace import Workspace
from models.common.linear.eager import PackedLinear, SplitQKV, pack_neighbors, project
from models.common.linear.gemv import GemvShape, default_shape, gemv_scaled, interpreted_shape, needs, row_edges
from models.common.linear.skinny import max_rows
from models.common.mlp.eager import SplitGateUp
from models.common.quantization.quantized_gemv import gemv_int4
from models.common.quantization.schemes import Codes, Scheme

WEIGHT = ".weight"
CHUNK_BYTES = {"cuda": 1 << 26, "cpu": 200_000}
"""Dequantized weights that exist at one time. On a CPU, where tiny models stand for large ones, their matrices take
several chunks and a rest, too."""


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

    def forward(self, x: Tensor, rounded: bool = True) -> Tensor:
        """x [..., K] -> [..., N]; as `linear.sums` where it is not to be rounded."""
        flat = x.reshape(-1, self.inputs)
        product = self._few if flat.shape[0] <= self.rows else self._many
        return product(flat, rounded).view(*x.shape[:-1], -1)

    def _few(self, x: Tensor, rounded: bool) -> Tensor:
        if self.zeros is not None:
            return gemv_int4(x, self.codes, self.scales, self.zeros, self.bias, rounded=rounded)["out"]
        shape = byte_shape(x.shape[0], self.codes.shape[0], self.inputs, x.device)
        return gemv_scaled(x, self.codes, self.scales, self.bias, shape, self.workspace, rounded)["out"]

    def _many(self, x: Tensor, rounded: bool) -> Tensor:
        step = max(1, CHUNK_BYTES[x.device.type] // (self.inputs * x.element_size()))
        parts = []
        for start in range(0, self.codes.shape[0], step):
            rows = slice(start, start + step)
            held = Codes(self.codes[rows], self.scales[rows], None if self.zeros is None else self.zeros[rows])
            weight = self.scheme.dequantize(held, self.inputs, x.dtype)
            parts.append(project(x, weight, None if self.bias is None else self.bias[rows], rounded)["out"])
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
    """Which linear layers are rounded, and how: the build and the reference that it is held against both ask here."""

    schemes: Mapping[str, Scheme]
    """Pattern (as in fnmatch) of the paths of linear layers in the eager build -> what holds their matrices."""
    rows: int
    """Activation rows up to which the decode kernels are used where they run."""

    def of(self, path: str) -> Scheme | None:
        """The scheme of the module at `path`; None for one that keeps its weight."""
        return next((scheme for pattern, scheme in self.schemes.items() if fnmatchcase(path, pattern)), None)

    def of_parameter(self, name: str) -> Scheme | None:
        """As `of`, by the name of a parameter."""
        return self.of(name.removesuffix(WEIGHT)) if name.endswith(WEIGHT) else None

    def __str__(self) -> str:
        return ", ".join(f"{pattern} in {scheme.name}" for pattern, scheme in self.schemes.items())


def quantize(model: nn.Module, choice: Choice, target: Target) -> tuple[str, ...]:
    """Neighbors packed, then every layer that `choice` names rounded; returns the paths replaced. Raises ValueError
    where it names what is no linear layer, or some neighbors of several that are packed."""
    held = _held(model, choice)
    packed = pack_neighbors(model)
    rows = 0 if target.kernels == "none" else choice.rows
    layers = [(path, m) for path, m in model.named_modules() if type(m) in (PackedLinear, nn.Linear) and path in held]
    workspace = _workspace([layer.weight for _, layer in layers], rows, target.device)
    for path, layer in layers:
        kind = QuantizedPacked if type(layer) is PackedLinear else QuantizedLinear
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, kind(layer, held[path], rows, workspace))
    return packed + tuple(path for path, _ in layers if path not in packed)


def weight_only(
    name: str, numerics: Numerics, choice: Choice, kernels: tuple[Kernel, ...], conflicts: tuple[str, ...]
) -> Optimization:
    """The optimization that holds linear layers as `choice` says and reads them so in decode steps."""
    summary = f"{choice}; decode steps stream the codes"

    def apply(model: nn.Module, target: Target, rows: int = choice.rows) -> Receipt:
        used = f"decode kernels up to {rows} rows" if target.kernels != "none" else "no decode kernels"
        return Receipt(name, quantize(model, replace(choice, rows=rows), target), (summary, used))

    def edges(rows: int = choice.rows) -> Edges:
        return {"rows": row_edges(rows)}

    return Optimization(
        name=name,
        summary=summary,
        numerics=numerics,
        apply=apply,
        kernels=kernels,
        conflicts=conflicts,
        rounding=choice.of_parameter,
        parameters=(max_rows(choice.rows),),
        edges=edges,
    )


def _held(model: nn.Module, choice: Choice) -> dict[str, Scheme]:
    """Path -> scheme of the layers that `choice` names in the eager `model`, and of what packs them."""
    held: dict[str, Scheme] = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        path, scheme = name.removesuffix(WEIGHT), choice.of_parameter(name)
        if scheme is None:
            continue
        if type(model.get_submodule(path)) is not nn.Linear:
            raise ValueError(f"'{path}' is no linear layer: only the reference's weights would be rounded")
        held[path] = scheme
    for path, split in model.named_modules():
        if type(split) in (SplitQKV, SplitGateUp):
            held |= _packed(path, {held.get(f"{path}.{name}") for name, _ in split.named_children()})
    return held


def _packed(path: str, schemes: set[Scheme | None]) -> dict[str, Scheme]:
    if len(schemes) > 1:
        raise ValueError(f"the layers of '{path}' are packed into one matrix, which one scheme has to hold")
    scheme = schemes.pop()
    return {} if scheme is None else {path: scheme, f"{path}.packed": scheme}


def _workspace(weights: list[Tensor], rows: int, device: torch.device) -> Workspace:
    floats, tickets = 0, 0
    for weight in weights:
        n, k = weight.shape
        for m in range(2, rows + 1):
            size = needs(m, n, byte_shape(m, n, k, device))
            floats, tickets = max(floats, size[0]), max(tickets, size[1])
    return Workspace.allocate(floats, tickets, device)
