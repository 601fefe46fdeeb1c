"""Every layer alone, teacher-forced: each gets the plain model's own input to it (docs/method.md 1.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from harness.build.dtypes import dtype_name, wider
from harness.parity.levels.stages import flat, traced
from harness.parity.reference.reference_model import LayerRun, ReferenceModel, Trace, captured_attention
from harness.parity.reference.routing import RankedRoute, Route, Routes, judge_choice, our_choices, reference_choice
from harness.parity.tolerance.rules import judge, span, worst
from harness.records.checks import Check, Divergence
from harness.spec.model import Attending, ModelSpec, Stage
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import CausalLM, vision_lm


def check_layers(
    model: CausalLM, plain: ReferenceModel, inputs: ModelInputs, hidden: Sequence[Tensor], name: str
) -> list[list[Check]]:
    """The residual delta of every layer on the prompt `inputs` by the op rules, given `hidden`, the plain model's input
    to each: one check a layer, its worst rule, after those of the experts that a sparse layer chose."""
    return [check_layer(model, plain, index, inputs, hidden[index], name) for index in range(len(plain))]


def check_layer(
    model: CausalLM, plain: ReferenceModel, index: int, inputs: ModelInputs, hidden: Tensor, name: str
) -> list[Check]:
    """As check_layers, layer `index` alone on its input `hidden` [B, T, H]."""
    base = hidden.to(wider(hidden.dtype))

    def delta(out: Tensor) -> Tensor:
        # Formed in the wider type: subtracting the stream must add no rounding of its own.
        return out.to(base.dtype) - base

    chosen: dict[str, RankedRoute] = {}
    wide_run, plain_run = plain.wide_layer(index, inputs), plain.layer(index, inputs)
    shape, routing = hidden.shape[:2], plain.routing
    with reference_choice(wide_run.layer, routing, shape, None, partial(chosen.__setitem__, "wide")):
        reference = delta(wide_run(base))
    replay = chosen.get("wide")
    with reference_choice(plain_run.layer, routing, shape, replay, partial(chosen.__setitem__, "plain")):
        theirs = delta(plain_run(hidden)).to(hidden.dtype)
    ours_chosen: dict[int, Route] = {}
    routes = None if replay is None else Routes({index: replay})
    with our_choices(model, routing, routes, ours_chosen.__setitem__):
        ours = delta(run_layer(model, index, inputs, hidden)).to(hidden.dtype)
    checks = [worst(judge(ours, reference, theirs, level="layer", subject=f"layer {index}", name=name))]
    if replay is None:
        return checks
    dtype = dtype_name(hidden.dtype)
    return [*judge_choice(ours_chosen[index], chosen["plain"], replay, index, dtype), *checks]


def run_layer(model: CausalLM, index: int, inputs: ModelInputs, hidden: Tensor) -> Tensor:
    """Our layer `index` alone on its input `hidden` [B, T, H], which the tokens of `inputs` have led to."""
    cache = model.new_cache(hidden.shape[0], hidden.shape[1])
    if inputs.pixels is not None:
        # A layer's input holds what the images show already; only where each token stands is left to say.
        vision_lm(model).place(cache, inputs, None)
    return model.layer(index, hidden, cache)


def localize(
    model: CausalLM, plain: ReferenceModel, spec: ModelSpec, index: int, inputs: ModelInputs, hidden: Tensor
) -> Divergence | None:
    """The first stage of layer `index`, in data-flow order, that breaks a rule on the layer input `hidden`; None when
    every stage that both sides show holds. Stages that several ranks hold in parts are not compared."""
    chosen: dict[str, RankedRoute] = {}
    stages = spec.stages
    wide_run, plain_run = plain.wide_layer(index, inputs), plain.layer(index, inputs)
    shape, routing = hidden.shape[:2], plain.routing
    with reference_choice(wide_run.layer, routing, shape, None, partial(chosen.__setitem__, "wide")):
        upcast = _plain_trace(wide_run, hidden.to(wider(hidden.dtype)), stages)
    replay = chosen.get("wide")
    with reference_choice(plain_run.layer, routing, shape, replay, partial(chosen.__setitem__, "plain")):
        theirs = _plain_trace(plain_run, hidden, stages)
    with our_choices(model, routing, None if replay is None else Routes({index: replay})):
        ours = _our_trace(model, spec, index, inputs, hidden)
    for stage in stages:
        if stage.ours not in ours:
            continue
        o, r, p = ours[stage.ours], upcast[stage.reference], theirs[stage.reference]
        if o.shape[-1] != r.shape[-1]:
            continue
        checks = judge(o, r, p, level="layer", subject=f"layer {index}", name=stage.name)
        broken = worst(checks)
        if not broken.passed:
            return Divergence(
                layer=index,
                stage=stage.name,
                op=stage.op,
                rule=broken.rule,
                where=span(checks) or broken.where,
                error=broken.error,
                limit=broken.limit,
            )
    return None


def _our_trace(model: CausalLM, spec: ModelSpec, index: int, inputs: ModelInputs, hidden: Tensor) -> Trace:
    trace: Trace = {}
    layer = model.layers[index]
    with traced(layer, [stage.ours for stage in spec.stages], trace), _attention_inputs(layer, spec.attending, trace):
        run_layer(model, index, inputs, hidden)
    return trace


@contextmanager
def _attention_inputs(layer: nn.Module, attending: Attending | None, trace: Trace) -> Iterator[None]:
    """While open, what our attention is given lands in `trace`: its queries, and the cache as it then stands."""
    if attending is None:
        yield
        return
    inputs = attending.inputs

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = inputs(*args, **kwargs)
        trace["@query"], trace["@keys"], trace["@values"] = map(flat, (given.query, given.keys, given.values))

    handle = layer.get_submodule(attending.module).register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _plain_trace(run: LayerRun, hidden: Tensor, stages: Sequence[Stage]) -> Trace:
    trace: Trace = {}
    with traced(run.layer, [stage.reference for stage in stages], trace), captured_attention(run.layer, trace):
        run(hidden)
    return trace
