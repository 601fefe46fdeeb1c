"""The rotary table at positions that no prompt of a proof reaches: a slow frequency does not show before."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.build.dtypes import dtype_name
from harness.parity.reference.reference_model import ReferenceModel
from harness.records.checks import UNBOUNDED, Check
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import CausalLM

UNITS = 4.0
"""Between right tables, at most: the angle is rounded, its cosine is, and the frequency that it came from."""


def check_rotary(model: CausalLM, plain: ReferenceModel, inputs: ModelInputs, seed: int) -> Check:
    """cos and sin at positions drawn from all that the model knows, the last one among them, unequal on every axis,
    against the plain table's. An error is counted in units of what rounding the angle to float32 and the result to
    the model's dtype may make of it."""
    last = model.max_positions - 1
    here = plain.positions(inputs)
    positions = torch.randint(0, last, here.shape, generator=torch.Generator().manual_seed(seed)).to(here.device)
    positions[..., -1] = last
    ours, theirs = model.rotary(positions), plain.turns(positions)
    name = f"{'x'.join(map(str, here.shape))} positions up to {last}, {dtype_name(theirs[0].dtype)}"
    if any(o.shape != t.shape for o, t in zip(ours, theirs, strict=True)):
        return _check(name, float("inf"), f"shape {tuple(ours[0].shape)}, not {tuple(theirs[0].shape)}")
    unit = _unit(plain, positions, theirs[0].dtype)
    errors = torch.stack([(o.double() - t.double()).abs() / unit for o, t in zip(ours, theirs, strict=True)])
    errors = errors.nan_to_num(torch.inf)
    at = torch.unravel_index(errors.argmax(), errors.shape)
    return _check(name, float(errors.max()), f"{('cos', 'sin')[int(at[0])]} of channel {int(at[-1])}")


def _unit(plain: ReferenceModel, positions: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, T, R] float64."""
    cos, sin = (table.double() for table in plain.turns(torch.ones_like(positions)))
    farthest = positions if positions.dim() == 2 else positions.amax(0)
    angle = torch.atan2(sin, cos) * farthest.unsqueeze(-1)
    return torch.finfo(torch.float32).eps * (1 + angle) + (dtype != torch.float32) * torch.finfo(dtype).eps


def _check(name: str, error: float, where: str) -> Check:
    error = min(error, UNBOUNDED)
    return Check(
        level="layer", subject="rotary table", name=name, rule="angle", error=error, noise=0, limit=UNITS, where=where
    )
