"""From a failed proof to the smallest case of it that fails again by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.build import builder
from harness.build.dtypes import dtype_name
from harness.parity.diagnosis.reproducer import Asked, Layout, Reproducer
from harness.parity.kernels.fixed_menu import cases
from harness.parity.kernels.kernel_checks import kernels_of, seed_after_code
from harness.parity.levels.layer import run_layer
from harness.parity.levels.vision_tower import POSITIONS
from harness.parity.parity_run import ONE_TOKEN, ParityRun
from harness.parity.trained_like_run import RUNS
from harness.records.checks import Check, Parity
from harness.records.proof_size import ProofSize
from harness.records.recipe_label import recipe_of
from harness.spec.kernel import Kernel
from harness.spec.model import ModelSpec
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Target
from harness.spec.parameter import Values

MOST_BYTES = 64 << 20
"""Tensors of one reproducer; rows of a layer's input past it are left out, other inputs past it are not saved."""


@torch.no_grad()
def capture(
    config: builder.BuildConfig, size: str, proof_size: ProofSize, parity: Parity, parameters: Values | None = None
) -> Reproducer | None:
    """The first kernel that fails, else the first layer or stage before the layers, else the whole model on its prompt.
    None when the inputs are too large to save, or do not fail again by themselves. The spec of `config` is made with
    `parameters`."""
    spec, source, target = config.spec, config.source, config.target
    about = {
        "model": spec.name,
        "size": size,
        "seed": source.seed,
        "weights": str(source.directory) if source.directory else None,
        "stack": config.stack,
        "parameters": dict(parameters or {}),
        "device": target.device.type,
        "kernels": target.kernels,
    }
    for check in parity.failures():
        if check.level == "op":
            return _capture_op(config, about, check)
        if _of_one_prompt(spec, source, check):
            found = (
                _capture_prompt(make(config, proof_size), purpose, about, check)
                for make, purpose in _benches(check, target)
            )
            return next((saved for saved in found if saved is not None and _fails(saved, spec)), None)
    whole = (_whole(about, check, dtype, proof_size) for check in parity.failures()[:1] for dtype in _types(target))
    return next((saved for saved in whole if _fails(saved, spec)), None)


def _of_one_prompt(spec: ModelSpec, source: builder.Source, check: Check) -> bool:
    """Whether a layer, or a stage before the layers, is judged on nothing but a prompt and what the layer is given."""
    if check.level != "layer":
        return False
    before = (POSITIONS, *(part.name for part in spec.vision.parts(source.config))) if spec.vision else ()
    return check.subject in before or _layer(check) is not None


def _layer(check: Check) -> int | None:
    """The number of the layer that was judged as a whole."""
    number = check.subject.removeprefix("layer ")
    return int(number) if number.isdecimal() else None


def _types(target: Target) -> dict[torch.dtype, None]:
    return dict.fromkeys((torch.float32, target.dtype))


def _whole(about: dict[str, Any], check: Check, dtype: torch.dtype, proof_size: ProofSize) -> Reproducer:
    """Nothing but what to ask: the prompt is drawn again."""
    asked = Asked(
        kind="whole",
        dtype=_name(dtype),
        subject=check.subject,
        case="",
        layouts={},
        values={},
        extent=(proof_size.batch, proof_size.prompt_tokens, proof_size.new_tokens),
        check=check,
        recipe=recipe_of(check),
        **about,
    )
    return Reproducer(asked, {})


def _fails(saved: Reproducer, spec: ModelSpec) -> bool:
    return any(not check.passed for check in saved.run(spec))


def _capture_op(config: builder.BuildConfig, about: dict[str, Any], check: Check) -> Reproducer | None:
    spec, target, seed = config.spec, config.target, seed_after_code(config.spec, config.source.seed)
    kernel = next(kernel for kernel in kernels_of(spec, config.stack) if kernel.name == check.subject)
    for dtype in _types(target):
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
            if _bytes(*given.values()) > MOST_BYTES:
                return None
            if _fails(saved, spec):
                return replace(saved, tensors={**saved.tensors, **_answers(kernel, case.inputs)})
    return None


def _answers(kernel: Kernel, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    def copied(change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        return {name: change(x) if isinstance(x, Tensor) else x for name, x in inputs.items()}

    def widened(x: Tensor) -> Tensor:
        return x.double() if x.is_floating_point() else x.clone()

    answers = {"plain": kernel.eager(**copied(torch.clone)), "reference": kernel.eager(**copied(widened))}
    # A kernel that does not run has no answer; the inputs are what there is to look at.
    with suppress(RuntimeError, ValueError, TypeError):
        answers["candidate"] = kernel.launch(**copied(torch.clone))
    return {f"{who}.{name}": value.clone() for who, said in answers.items() for name, value in said.items()}


def _benches(check: Check, target: Target) -> Iterator[tuple[Callable[..., ParityRun], str]]:
    """Those that can have said it, each with the purpose of its prompt: both, where the target is float32."""
    single, kind = check.name.endswith("float32"), RUNS[recipe_of(check)]
    if single:
        yield kind.fp32, "fp32"
    if not single or target.dtype == torch.float32:
        yield kind, "target"


def _capture_prompt(run: ParityRun, purpose: str, about: dict[str, Any], check: Check) -> Reproducer | None:
    """The prompt of a layer with the layer's input, or of a stage before the layers."""
    layer = _layer(check)
    of_prompt = layer is not None or check.subject == POSITIONS
    prompt = run.oracle.prompt(purpose) if of_prompt else run.oracle.sights()
    if check.name.endswith(ONE_TOKEN):
        prompt = prompt.last_tokens()
    answers: dict[str, Tensor] = {}
    if layer is not None:
        prompt, answers = _of_layer(run, layer, prompt)
    answers["input.tokens"] = prompt.tokens.clone()
    if prompt.pixels is not None:
        answers["input.pixels"] = prompt.pixels.clone()
        if _bytes(prompt.pixels) > MOST_BYTES:
            return None
    asked = Asked(
        kind="vision" if layer is None else "layer",
        dtype=_name(run.target.dtype),
        subject=check.subject if layer is None else str(layer),
        case="",
        layouts={},
        values={},
        grids=prompt.grids,
        image_token=prompt.image_token,
        check=check,
        recipe=recipe_of(check),
        **about,
    )
    return Reproducer(asked, answers)


def _of_layer(run: ParityRun, index: int, prompt: ModelInputs) -> tuple[ModelInputs, dict[str, Tensor]]:
    """As many rows of the prompt as fit, and what the layer is given and answers there."""
    hidden = run.plain.layer_inputs(prompt)[index]
    rows = max(1, MOST_BYTES // (4 * max(1, _bytes(hidden[0]))))
    prompt, hidden = prompt.first(rows), hidden[:rows]
    return prompt, {
        "input.hidden": hidden.clone(),
        "candidate.hidden": run_layer(run.model, index, prompt, hidden).clone(),
        "plain.hidden": run.plain.layer(index, prompt)(hidden).clone(),
    }


def _bytes(*tensors: Tensor) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def _name(dtype: torch.dtype) -> Any:
    """One of the three names that `Asked` admits."""
    return dtype_name(dtype)
