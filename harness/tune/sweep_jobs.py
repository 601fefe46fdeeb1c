"""What a sweep runs: kernels on the shapes of a decode step, in memory that calls rotate through, beside torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.tune.sweep_clock import copies
from harness.tune.sweep_shapes import KV_HEADS, Attention, Product
from models.common.attention.decode_attention import MAX_SPLITS, AttentionShape, decode_attention, needs
from models.common.attention.decode_attention_cases import HEAD_DIM
from models.common.attention.decode_attention_cases import inputs as attention_inputs
from models.common.attention.eager import paged_attention
from models.common.kernels.workspace import Workspace
from models.common.linear.eager import project, project_swiglu
from models.common.linear.gemv import GemvShape, gemv, gemv_swiglu

GROUP = 4
DTYPE = torch.bfloat16
WORSE = 1.25
"""How much more than torch in the same dtype a result may err, root mean square."""
Shape = GemvShape | AttentionShape
Inputs = dict[str, Any]
Launch = Callable[..., dict[str, Tensor]]
LAUNCHES: dict[str, tuple[Launch, Launch]] = {
    "gemv": (gemv, project),
    "swiglu": (gemv_swiglu, project_swiglu),
}


@dataclass(frozen=True)
class Job:
    """One thing to make fast."""

    name: str
    launch: Launch
    twin: Launch
    plain: Callable[..., object]
    """What torch offers for the same inputs."""
    sets: list[Inputs]
    """Inputs that successive calls take in turn."""
    bytes: int
    workspace: Workspace

    def run(self, shape: Shape, index: int) -> dict[str, Tensor]:
        return self.launch(**self.sets[index], shape=shape, workspace=self.workspace)

    @cached_property
    def truth(self) -> dict[str, tuple[Tensor, float]]:
        """Output name -> the float32 result on the first inputs, and how far torch in the job's dtype is from it."""
        first = self.sets[0]
        wide = {name: value.float() if _floating(value) else value for name, value in first.items()}
        exact, plain = self.twin(**wide), self.twin(**first)
        return {name: (exact[name], float((plain[name] - exact[name]).norm())) for name in exact}

    def check(self, shape: Shape) -> None:
        """Raises RuntimeError unless two calls agree bit for bit and err little more than torch does."""
        once, again = self.run(shape, 0), self.run(shape, 0)
        for name, (exact, noise) in self.truth.items():
            error = float((once[name] - exact).norm())
            if not error <= WORSE * noise:
                raise RuntimeError(f"{name} is wrong: error {error:.3g} where torch has {noise:.3g}")
            if not torch.equal(once[name], again[name]):
                raise RuntimeError(f"{name} differs between two calls")


def _floating(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def product_job(work: Product, m: int, sets: int | None = None) -> Job:
    """`sets` of inputs, by default as many as fill the rotation."""
    size = (work.rows * work.k + m * (work.k + work.outputs)) * DTYPE.itemsize
    drawn = [_product_inputs(work, m) for _ in range(sets or copies(size))]
    launch, twin = LAUNCHES[work.kind]
    # Eight splits of both halves is the most that any candidate asks for.
    workspace = Workspace.allocate(16 * m * work.outputs, work.outputs, torch.device("cuda"))
    return Job(f"{work.name} M{m}", launch, twin, _linear, drawn, size, workspace)


def _product_inputs(work: Product, m: int) -> Inputs:
    weight = _draw(work.rows, work.k).mul_(work.k**-0.5)
    return {"x": _draw(m, work.k), "weight": weight}


def _draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=DTYPE, device="cuda")


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """The matrix product alone: what any torch build pays, whatever it fuses around it."""
    return F.linear(x, weight)


def attention_job(work: Attention, sets: int | None = None) -> Job:
    size = 2 * work.batch * work.length * KV_HEADS * HEAD_DIM * DTYPE.itemsize
    device = torch.device("cuda")
    generator = torch.Generator(device).manual_seed(0)
    lengths, starts = [work.length] * work.batch, [0] * work.batch
    drawn = [
        attention_inputs(lengths, starts, GROUP, KV_HEADS, work.length, 1, DTYPE, device, generator)
        for _ in range(sets or copies(size))
    ]
    workspace = Workspace.allocate(*needs(work.batch, KV_HEADS * GROUP, HEAD_DIM, MAX_SPLITS), device)
    return Job(work.name, decode_attention, paged_attention, _sdpa, drawn, size, workspace)


def _sdpa(q: Tensor, k_pages: Tensor, v_pages: Tensor, scale: float, **_: object) -> Tensor:
    return F.scaled_dot_product_attention(q.transpose(1, 2), k_pages, v_pages, scale=scale, enable_gqa=True)
