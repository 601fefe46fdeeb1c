"""The smallest saved case that fails: a kernel's inputs, a layer's or a tower's, what was answered and what was right.

Two files: `NAME.json` says what to run and which rule broke, `NAME.safetensors` holds the tensors. Never a pickle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, StrictInt, StrictStr, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.build import builder
from harness.errors import UserError
from harness.parity.kernels.kernel_checks import check_kernel, kernels_of
from harness.parity.levels.layer import check_layer
from harness.parity.levels.vision_tower import check_vision
from harness.parity.parity_run import ParityRun
from harness.parity.trained_like_run import RUNS
from harness.records.case import Frozen
from harness.records.checks import Check
from harness.records.proof_size import ProofSize
from harness.records.recipe_label import labeled
from harness.records.weight_recipe import WeightRecipe
from harness.spec.kernel import OpCase
from harness.spec.model import ModelSpec
from harness.spec.model_inputs import Grid, ModelInputs
from harness.spec.optimization import KernelMode, Target
from harness.spec.runtime import vision_lm


class Layout(Frozen):
    """How a saved tensor lay in memory."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Asked(Frozen):
    """What to run again."""

    kind: Literal["op", "layer", "vision", "whole"]
    model: str
    size: str
    seed: int
    weights: str | None
    recipe: WeightRecipe = "random"
    """Of the weights that it failed with."""
    stack: tuple[str, ...]
    parameters: dict[str, StrictInt | StrictStr] = Field(default_factory=dict)
    """Of the stack, those that were not at their defaults."""
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "float16", "bfloat16"]
    kernels: KernelMode
    subject: str
    """The kernel's name, the layer's index, or what a check of the whole model names."""
    case: str
    """Name of a kernel's menu entry."""
    layouts: dict[str, Layout]
    values: dict[str, float | int | None]
    """Inputs that are no tensors."""
    grids: tuple[tuple[Grid, ...], ...] = ()
    image_token: int | None = None
    """Of a prompt, as in ModelInputs."""
    extent: tuple[int, int, int] | None = None
    """Rows, prompt tokens and new tokens of the proof, of a whole model: the prompt follows from them and the seed."""
    check: Check
    """What broke, with its limit."""

    def target(self) -> Target:
        return Target(torch.device(self.device), getattr(torch, self.dtype), self.kernels)


@dataclass(frozen=True)
class Reproducer:
    asked: Asked
    tensors: Mapping[str, Tensor]
    """`input.NAME` what was given; `candidate.NAME`, `plain.NAME`, `reference.NAME` what was answered."""

    def save(self, stem: Path) -> Path:
        """Writes STEM.safetensors, then STEM.json; gives the latter."""
        flat = {name: value.detach().cpu().contiguous() for name, value in self.tensors.items()}
        save_file(flat, stem.with_name(f"{stem.name}.safetensors"))
        named = stem.with_name(f"{stem.name}.json")
        named.write_text(self.asked.model_dump_json(indent=1))
        return named

    @classmethod
    def load(cls, path: Path) -> Reproducer:
        """Raises UserError naming what cannot be read."""
        try:
            asked = Asked.model_validate_json(path.read_bytes())
            tensors = load_file(path.with_suffix(".safetensors"))
        except (OSError, ValidationError, SafetensorError, json.JSONDecodeError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise UserError(f"{path} is no reproducer that can be run: {reason}") from None
        return cls(asked, tensors)

    def run(self, spec: ModelSpec) -> list[Check]:
        """The same judgment on the saved inputs, by the code as it is now."""
        target = self.asked.target()
        if self.asked.kind == "op":
            return _run_op(spec, self, target)
        if self.asked.kind == "whole":
            return _run_whole(spec, self.asked)
        run = RUNS[self.asked.recipe](_config(spec, self.asked), ProofSize(1, 1, 1))
        given = {name: x.to(target.device) for name, x in self.tensors.items() if name.startswith("input.")}
        asked = self.asked
        prompt = ModelInputs(given["input.tokens"], given.get("input.pixels"), asked.grids, asked.image_token)
        if asked.kind == "vision":
            return _run_vision(run, prompt, asked)
        return check_layer(run.model, run.plain, int(asked.subject), prompt, given["input.hidden"], "replayed")


def _run_op(spec: ModelSpec, saved: Reproducer, target: Target) -> list[Check]:
    asked = saved.asked
    kernel = next((kernel for kernel in kernels_of(spec, asked.stack) if kernel.name == asked.subject), None)
    if kernel is None:
        raise UserError(f"{spec.name} has no kernel {asked.subject} in {'+'.join(asked.stack)} any more")
    given = {
        name: _laid_out(saved.tensors[f"input.{name}"].to(target.device), layout)
        for name, layout in asked.layouts.items()
    }
    inputs = {**given, **asked.values}

    def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        yield OpCase(asked.case, inputs)

    checks = check_kernel(replace(kernel, cases=menu), target.dtype, target.device, asked.seed)
    # One case alone says too little about the judgment itself.
    return [check for check in checks if check.name != "all cases"]


def _run_whole(spec: ModelSpec, asked: Asked) -> list[Check]:
    """The proof on the same prompt, up to what broke; on the run that proves the maths, if that was where."""
    if asked.extent is None:
        raise UserError(f"{asked.subject} of {asked.model} was saved without the size of its prompt")
    single = asked.dtype == "float32"
    kind = RUNS[asked.recipe]
    run = (kind.fp32 if single else kind)(_config(spec, asked), ProofSize(*asked.extent))
    broken = (asked.check.level, asked.check.subject, asked.check.name)
    for made in run.in_fp32() if single else run.in_target():
        checks = [labeled(check, asked.recipe) for check in made]
        if found := [check for check in checks if (check.level, check.subject, check.name) == broken]:
            return found
    return []


def _run_vision(run: ParityRun, prompt: ModelInputs, asked: Asked) -> list[Check]:
    vision = run.spec.vision
    if vision is None:
        raise UserError(f"{asked.model} does not see any more, and {asked.subject} was saved")
    checks = check_vision(vision_lm(run.model), run.plain, vision, vision.parts(run.source.config), prompt, prompt)
    return [check for check in checks if (check.level, check.subject) == (asked.check.level, asked.subject)]


def _config(spec: ModelSpec, asked: Asked) -> builder.BuildConfig:
    source = builder.Source.of(spec, asked.size, asked.seed, asked.weights)
    return builder.BuildConfig(spec, source, asked.stack, asked.target())


def _laid_out(values: Tensor, layout: Layout) -> Tensor:
    extent = 1 + sum((n - 1) * s for n, s in zip(layout.shape, layout.stride, strict=True)) if values.numel() else 0
    buffer = torch.zeros(max(extent, 0), dtype=values.dtype, device=values.device)
    return buffer.as_strided(layout.shape, layout.stride).copy_(values)
