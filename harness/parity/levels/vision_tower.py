"""A model that sees, stage by stage before its decoder layers: positions, the tower's parts, the language model on the
reference's own features (docs/method.md 1.5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.build.dtypes import dtype_name, wider
from harness.build.inputs import prepared
from harness.errors import HarnessError
from harness.parity.levels.logits import FP32_LIMIT, FP32_NOISE_FACTOR
from harness.parity.reference.reference_model import ReferenceModel
from harness.parity.tolerance.rules import judge, relative_frobenius, worst
from harness.records.checks import UNBOUNDED, Check, Level
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import VisionLM
from harness.spec.vision import Part, Vision

POSITIONS = "positions"
"""What a check of them is about."""


def check_vision(
    model: VisionLM,
    plain: ReferenceModel,
    vision: Vision,
    parts: Sequence[Part],
    inputs: ModelInputs,
    sights: ModelInputs,
) -> list[Check]:
    """Positions of the prompt `inputs` as exact integers, and that its logits move when the images do; every part of
    the tower on the images of `sights`, as `check_tower`."""
    if inputs.pixels is None:
        raise HarnessError("the vision stages need a prompt with images: on text alone they would pass unseen")
    seen = [_positions(model, plain, vision, inputs), _moves(model, inputs, inputs.pixels)]
    return [*seen, *check_tower(model, plain, parts, sights)]


def check_tower(model: VisionLM, plain: ReferenceModel, parts: Sequence[Part], inputs: ModelInputs) -> list[Check]:
    """Every part of the tower by the op rules, on the plain tower's own input to it."""
    pixels = inputs.pixels
    if pixels is None:
        raise HarnessError("a tower is judged on images, and there are none")
    checks: list[Check] = []
    calls = _calls(plain.tower(), plain, parts, inputs)
    wide_tower = plain.wide_tower()
    wide_start = _calls(wide_tower, plain, parts, inputs.to(inputs.tokens.device, wider(plain.model.dtype)))
    modules = dict(wide_tower.named_modules())
    for part in parts:
        call = calls[part.reference]
        upcast = wide_start[part.reference].given if _is_input(part) else call.again(modules[part.reference])
        source = pixels if _is_input(part) else call.given
        checks.append(worst(_judge_part(part, part.ours(model, inputs, source), call, upcast)))
    return checks


def check_language(model: VisionLM, plain: ReferenceModel, inputs: ModelInputs) -> Check:
    """fp32 logits of our language model on the plain tower's features: no error of our own tower can hide in them."""
    batch, tokens = inputs.tokens.shape
    cache = model.new_cache(batch, tokens)
    features = plain.features(inputs)
    model.place(cache, inputs, features)
    ours, theirs = model(inputs.tokens, cache), plain.logits(inputs)
    noise = relative_frobenius(theirs, plain.wide_logits(inputs, features)[0])
    error = relative_frobenius(ours, theirs)
    return Check(
        level="logits",
        subject="language model on the reference's image features",
        name=_extent(inputs),
        rule="relative Frobenius",
        error=error if error < float("inf") else UNBOUNDED,
        noise=noise,
        limit=max(FP32_LIMIT, FP32_NOISE_FACTOR * noise),
    )


def _positions(model: VisionLM, plain: ReferenceModel, vision: Vision, inputs: ModelInputs) -> Check:
    batch, tokens = inputs.tokens.shape
    cache = model.new_cache(batch, tokens)
    model.place(cache, inputs, None)
    ours, offsets = model.positions(cache), cache.offsets.long()
    theirs, deltas = vision.positions(plain.module, inputs)
    wrong = int((ours != theirs).sum()) + int((offsets != deltas).sum())
    name = f"{_extent(inputs)}, {dtype_name(plain.model.dtype)}"
    return _count("layer", POSITIONS, name, "exact", wrong)


def _moves(model: VisionLM, inputs: ModelInputs, pixels: Tensor) -> Check:
    """Other pixels must give other logits, or the images are not looked at."""
    shown = [
        model(i.tokens, prepared(model, i, i.tokens.shape[1]), keep=1)
        for i in (inputs, replace(inputs, pixels=-pixels))
    ]
    still = torch.tensor([bool(grids) for grids in inputs.grids], device=inputs.tokens.device)
    still &= (shown[0] == shown[1]).flatten(1).all(1)
    return _count("logits", "candidate", "negated images", "sensitivity", int(still.sum()))


def _judge_part(part: Part, ours: Tensor, call: _Call, upcast: Tensor) -> list[Check]:
    theirs = call.given if _is_input(part) else call.gave
    if part.residual:
        # Formed in the wider type: subtracting the stream must add no rounding of its own.
        base = call.given.to(upcast.dtype)
        ours, theirs = ((out.to(base.dtype) - base).to(out.dtype) for out in (ours, theirs))
        upcast = upcast - base
    return judge(ours, upcast, theirs, level="layer", subject=part.name, name=f"{part.op} {dtype_name(theirs.dtype)}")


@dataclass
class _Call:
    """What a module of the reference's tower was given and gave."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    gave: Tensor

    @property
    def given(self) -> Tensor:
        tensor: Tensor = self.args[0]
        return tensor

    def again(self, module: Any) -> Tensor:
        """The same call of `module`, the first argument widened to its parameters' type."""
        dtype = next(module.parameters()).dtype
        out: Tensor = module(self.args[0].to(dtype), *self.args[1:], **self.kwargs)
        return out


def _calls(tower: nn.Module, plain: ReferenceModel, parts: Sequence[Part], inputs: ModelInputs) -> dict[str, _Call]:
    """One run of `tower`, every part's call by its reference path."""
    calls: dict[str, _Call] = {}
    with _recorded(tower, parts, calls):
        plain.see(tower, inputs)
    return calls


@contextmanager
def _recorded(tower: nn.Module, parts: Sequence[Part], calls: dict[str, _Call]) -> Iterator[None]:
    modules = dict(tower.named_modules())

    def record(path: str) -> Any:
        def hook(_: Any, args: Any, kwargs: Any, out: Tensor) -> None:
            copied = tuple(arg.clone() if isinstance(arg, Tensor) else arg for arg in args)
            calls[path] = _Call(copied, kwargs, out.clone())

        return modules[path.removesuffix(":input")].register_forward_hook(hook, with_kwargs=True)

    hooks = [record(part.reference) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_input(part: Part) -> bool:
    return part.reference.endswith(":input")


def _count(level: Level, subject: str, name: str, rule: str, wrong: int) -> Check:
    return Check(level=level, subject=subject, name=name, rule=rule, error=wrong, noise=0, limit=0)


def _extent(inputs: ModelInputs) -> str:
    shown = "+".join(str(len(row)) for row in inputs.grids)
    return f"{inputs.tokens.shape[0]} x {inputs.tokens.shape[1]} tokens, {shown} images"
