"""The smallest saved case that fails: a kernel's inputs or a layer's, what was answered and what was right.

Two files: `NAME.json` says what to run and which rule broke, `NAME.safetensors` holds the tensors. Never a pickle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness import build
from harness.case import Frozen
from harness.checks import Check, Parity
from harness.errors import UserError
from harness.parity.bench import Bench, Extent
from harness.parity.layer import check_layer, run_layer
from harness.parity.op import cases, check_kernel, kernels_of, seed_after_code
from harness.spec import Grid, KernelMode, ModelInputs, ModelSpec, OpCase, Target

MOST_BYTES = 64 << 20
"""Tensors of one reproducer; rows of a layer's input past it are left out, a kernel's inputs past it are not saved."""


class Layout(Frozen):
    """How a saved tensor lay in memory."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Asked(Frozen):
    """What to run again."""

    kind: Literal["op", "layer"]
    model: str
    size: str
    seed: int
    weights: str | None
    stack: tuple[str, ...]
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "float16", "bfloat16"]
    kernels: KernelMode
    subject: str
    """The kernel's name, or the layer's index."""
    case: str
    """Name of the menu entry; empty for a layer."""
    layouts: dict[str, Layout]
    values: dict[str, float | int | None]
    """Inputs that are no tensors."""
    grids: tuple[tuple[Grid, ...], ...] = ()
    image_token: int | None = None
    """Of a layer's prompt, as in ModelInputs."""
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
            raise UserError(f"{path} is no reproducer that can be run: {error}") from None
        return cls(asked, tensors)

    def run(self, spec: ModelSpec) -> list[Check]:
        """The same judgment on the saved inputs, by the code as it is now."""
        target = self.asked.target()
        if self.asked.kind == "op":
            return _run_op(spec, self, target)
        bench = _bench(spec, self.asked.stack, _source(spec, self.asked), target)
        given = {name: x.to(target.device) for name, x in self.tensors.items() if name.startswith("input.")}
        asked, hidden = self.asked, given["input.hidden"]
        prompt = ModelInputs(given["input.tokens"], given.get("input.pixels"), asked.grids, asked.image_token)
        return check_layer(bench.model, bench.plain, int(asked.subject), prompt, hidden, "replayed")


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

    checks = check_kernel(replace(kernel, menu=menu), target.dtype, target.device, asked.seed)
    # One case alone says too little about the judgment itself.
    return [check for check in checks if check.name != "all cases"]


@torch.no_grad()
def capture(
    spec: ModelSpec,
    source: build.Source,
    size: str,
    stack: Sequence[str],
    target: Target,
    extent: Extent,
    parity: Parity,
) -> Reproducer | None:
    """The first kernel that fails, else the first layer; None when neither does, or the inputs are too large to
    save."""
    about = {
        "model": spec.name,
        "size": size,
        "seed": source.seed,
        "weights": str(source.directory) if source.directory else None,
        "stack": tuple(stack),
        "device": target.device.type,
        "kernels": target.kernels,
    }
    for check in parity.failures():
        if check.level == "op":
            return _capture_op(spec, about, stack, target, seed_after_code(spec, source.seed), check)
        if check.level == "layer":
            return _capture_layer(spec, about, source, stack, target, extent, check)
    return None


def _capture_op(
    spec: ModelSpec, about: dict[str, Any], stack: Sequence[str], target: Target, seed: int, check: Check
) -> Reproducer | None:
    kernel = next(kernel for kernel in kernels_of(spec, stack) if kernel.name == check.subject)
    for dtype in dict.fromkeys((torch.float32, target.dtype)):
        for case in cases(kernel, dtype, target.device, seed):
            if check.name != case.name and not check.name.startswith(f"{case.name}: "):
                continue
            given = {name: value for name, value in case.inputs.items() if isinstance(value, Tensor)}
            asked = Asked(
                kind="op",
                dtype=_name(dtype),
                subject=kernel.name,
                case=case.name,
                layouts={name: Layout(shape=tuple(x.shape), stride=x.stride()) for name, x in given.items()},
                values={name: value for name, value in case.inputs.items() if name not in given},
                check=check,
                **about,
            )
            saved = Reproducer(asked, {f"input.{name}": x.clone() for name, x in given.items()})
            if sum(x.numel() * x.element_size() for x in given.values()) > MOST_BYTES:
                return None
            if any(not again.passed for again in saved.run(spec)):
                return replace(saved, tensors={**saved.tensors, **_answers(kernel, case.inputs)})
    return None


def _answers(kernel: Any, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    def copied(change: Any) -> dict[str, Any]:
        return {name: change(x) if isinstance(x, Tensor) else x for name, x in inputs.items()}

    def widened(x: Tensor) -> Tensor:
        return x.double() if x.is_floating_point() else x.clone()

    answers = {"plain": kernel.twin(**copied(torch.clone)), "reference": kernel.twin(**copied(widened))}
    # A kernel that does not run has no answer; the inputs are what there is to look at.
    with suppress(RuntimeError, ValueError, TypeError):
        answers["candidate"] = kernel.launch(**copied(torch.clone))
    return {f"{who}.{name}": value.clone() for who, said in answers.items() for name, value in said.items()}


def _capture_layer(
    spec: ModelSpec,
    about: dict[str, Any],
    source: build.Source,
    stack: Sequence[str],
    target: Target,
    extent: Extent,
    check: Check,
) -> Reproducer:
    single = check.name.endswith("float32")
    make = Bench.fp32 if single else Bench
    bench = make(spec, source, stack, target, extent)
    index = int(check.subject.removeprefix("layer "))
    prompt = bench.prompt("fp32" if single else "target")
    hidden = bench.plain.layer_inputs(prompt)[index]
    rows = max(1, MOST_BYTES // (4 * max(1, hidden[0].numel() * hidden.element_size())))
    prompt, hidden = prompt.first(rows), hidden[:rows]
    asked = Asked(
        kind="layer",
        dtype=_name(bench.target.dtype),
        subject=str(index),
        case="",
        layouts={},
        values={},
        grids=prompt.grids,
        image_token=prompt.image_token,
        check=check,
        **about,
    )
    answers = {
        "input.hidden": hidden.clone(),
        "input.tokens": prompt.tokens.clone(),
        "candidate.hidden": run_layer(bench.model, index, prompt, hidden).clone(),
        "plain.hidden": bench.plain.layer(index, prompt)(hidden).clone(),
    }
    if prompt.pixels is not None:
        answers["input.pixels"] = prompt.pixels.clone()
    return Reproducer(asked, answers)


def _bench(spec: ModelSpec, stack: Sequence[str], source: build.Source, target: Target) -> Bench:
    return Bench(spec, source, stack, target, Extent(1, 1, 1))


def _source(spec: ModelSpec, asked: Asked) -> build.Source:
    return build.Source.of(spec, asked.size, asked.seed, asked.weights)


def _laid_out(values: Tensor, layout: Layout) -> Tensor:
    extent = 1 + sum((n - 1) * s for n, s in zip(layout.shape, layout.stride, strict=True)) if values.numel() else 0
    buffer = torch.zeros(max(extent, 0), dtype=values.dtype, device=values.device)
    return buffer.as_strided(layout.shape, layout.stride).copy_(values)


def _name(dtype: torch.dtype) -> Any:
    return str(dtype).removeprefix("torch.")
