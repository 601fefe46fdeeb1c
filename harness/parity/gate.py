"""The whole proof of one build: fp32 first, then the target dtype, from single kernels up to generation; with random
weights, then with trained-like ones."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch

from harness.build import builder
from harness.build.dtypes import dtype_name
from harness.parity.kernels.dispatches import dispatched
from harness.parity.kernels.input_kinds import check_input_kinds
from harness.parity.kernels.kernel_checks import (
    check_far,
    check_kernel,
    corrupts_memory,
    judged_dtypes,
    kernels_of,
    seed_after_code,
)
from harness.parity.kernels.verdict_store import VerdictStore
from harness.parity.levels.quantization_loss import unjudged_loss
from harness.parity.parity_run import first_broken
from harness.parity.paths.timed_size import check_timed_size
from harness.parity.reference.statistics import statistics
from harness.parity.trained_like_run import RUNS
from harness.records.checks import Check, Level, NotJudged, Parity
from harness.records.proof_size import ProofSize
from harness.records.recipe_label import labeled, labeled_place
from harness.records.standing_verdict import StandingVerdict
from harness.records.weight_recipe import WeightRecipe
from harness.records.weight_statistics import JudgedWeights
from harness.spec.kernel import Kernel
from harness.spec.optimization import Receipt, Target

Progress = Callable[[float, str], None]
OPS_SHARE, RECIPE_SHARE = 0.3, {"random": 0.5, "trained_like": 0.2}
"""Of the work of a proof."""


@dataclass(frozen=True)
class Proof:
    parity: Parity
    receipts: tuple[Receipt, ...]


@torch.no_grad()
def prove(
    config: builder.BuildConfig,
    proof_size: ProofSize,
    progress: Progress,
    started: Mapping[str, str] | None = None,
    keep: Callable[[Sequence[Check]], None] = lambda _: None,
    recipe: WeightRecipe = "trained_like",
    verdicts: VerdictStore | None = None,
    elsewhere: Callable[[], Parity] | None = None,
) -> Proof:
    """Judge the stack on every level, and where its weights are random on trained-like ones besides unless `recipe` is
    `random`. A failure does not stop the levels after it: the report shows them all. `started` is the state of the
    process before the model's code was imported (`harness.build.process_state`); `keep` is given checks as soon as they
    are made. Of kernels whose verdict stands in `verdicts` the op level takes that. `elsewhere` waits for what
    another process finds of trained-like weights."""
    began = time.perf_counter()
    ops, standing = list[Check](), list[StandingVerdict]()
    for made, taken in _ops(config, progress, verdicts):
        ops += made
        standing += taken
        keep(made)
    if ill := [check for check in ops if corrupts_memory(check)]:
        # Launched inside the model it may end this process, and the evidence with it.
        unlaunched = _unlaunched(config, ops, ill, recipe, time.perf_counter() - began)
        return Proof(unlaunched.model_copy(update={"standing": tuple(standing)}), ())
    wrong = first_broken(ops) is not None
    inside = partial(_within, progress, OPS_SHARE, RECIPE_SHARE["random"])
    first = _judge(config, proof_size, "random", inside, started, keep, wrong)
    parts = [first.parity]
    if elsewhere is not None:
        progress(OPS_SHARE + RECIPE_SHARE["random"], "trained_like weights, in another process")
        parts.append(elsewhere())
    elif config.source.directory is None and recipe == "trained_like":
        inside = partial(_within, progress, OPS_SHARE + RECIPE_SHARE["random"], RECIPE_SHARE["trained_like"])
        parts.append(_judge(config, proof_size, recipe, inside, started, keep, wrong).parity)
    checks = (*ops, *chain.from_iterable(part.checks for part in parts))
    parity = Parity(
        checks=checks,
        not_judged=(*_not_judged(config, recipe), *unjudged_loss(config)),
        drift=next(filter(None, (part.drift for part in parts)), None),
        first_divergence=next(filter(None, (part.first_divergence for part in parts)), None) or first_broken(checks),
        statistics=tuple(chain.from_iterable(part.statistics or () for part in parts)),
        wall_s=time.perf_counter() - began,
        dispatches=tuple(sorted({name for part in parts for name in part.dispatches or ()})),
        standing=tuple(standing),
    )
    return Proof(parity, first.receipts)


@torch.no_grad()
def prove_recipe(
    config: builder.BuildConfig,
    proof_size: ProofSize,
    recipe: WeightRecipe,
    progress: Progress,
    started: Mapping[str, str] | None = None,
    keep: Callable[[Sequence[Check]], None] = lambda _: None,
) -> Parity:
    """What `prove` finds of the build on weights of one recipe, its kernels not judged by themselves."""
    return _judge(config, proof_size, recipe, progress, started, keep, wrong=False).parity


def _judge(
    config: builder.BuildConfig,
    proof_size: ProofSize,
    recipe: WeightRecipe,
    progress: Progress,
    started: Mapping[str, str] | None,
    keep: Callable[[Sequence[Check]], None],
    wrong: bool,
) -> Proof:
    """The build with weights of one recipe, in float32 and in the target dtype. Where it fails, or is known to be
    `wrong`, it is also traced from where it drifts."""
    target, kind, checks = config.target, RUNS[recipe], list[Check]()

    def take(made: Iterable[list[Check]]) -> None:
        for found in made:
            named = [labeled(check, recipe) for check in found]
            checks.extend(named)
            keep(named)

    progress(0.0, f"fp32 layers and logits, {recipe} weights")
    single = kind.fp32(config, proof_size, started)
    take(single.in_fp32())
    found = single.divergence
    del single
    _release(target)
    progress(0.6, f"{dtype_name(target.dtype)} layers, logits, generation and paths, {recipe} weights")
    counted = kernels_of(config.spec, config.stack) if target.kernels != "none" else ()
    with dispatched(counted) as launched:
        run = kind(config, proof_size, started)
        take(run.in_target())
        if proof_size.timed is not None and recipe == "random":
            progress(0.9, "the timed size and the edges of dispatch before it")
            take(check_timed_size(run, proof_size.timed))
    weights: JudgedWeights = recipe if config.source.directory is None else "checkpoint"
    judged = Proof(
        Parity(
            checks=tuple(checks),
            first_divergence=labeled_place(found or run.divergence, recipe),
            drift=run.drift() if wrong or first_broken(checks) else None,
            statistics=() if target.rank else statistics(run.plain, run.oracle.whole, weights),
            dispatches=launched.names(),
        ),
        run.receipts,
    )
    del run
    _release(target)
    return judged


def _within(progress: Progress, start: float, share: float, fraction: float, text: str) -> None:
    progress(start + share * fraction, text)


def _unlaunched(
    config: builder.BuildConfig, checks: Sequence[Check], ill: Sequence[Check], recipe: WeightRecipe, wall_s: float
) -> Parity:
    kernels = ", ".join(dict.fromkeys(check.subject for check in ill))
    reason = f"{kernels} writes memory that is not its own, and is not launched again"
    left: tuple[Level, ...] = ("layer", "logits", "generation", "path")
    unlaunched = (NotJudged(level=each, subject="the build", reason=reason) for each in left)
    return Parity(
        checks=tuple(checks),
        not_judged=(*_not_judged(config, recipe), *unlaunched),
        first_divergence=first_broken(ill),
        wall_s=wall_s,
    )


def _release(target: Target) -> None:
    """Give back the device memory of models that only reference cycles still hold: the next two may need all of it."""
    gc.collect()
    if target.device.type == "cuda":
        torch.cuda.empty_cache()


def _ops(
    config: builder.BuildConfig, progress: Progress, verdicts: VerdictStore | None
) -> Iterator[tuple[Sequence[Check], Sequence[StandingVerdict]]]:
    """Kernel by kernel in each dtype: its checks, and the verdict that they are from where another run made them."""
    target = config.target
    if target.kernels == "none" or target.rank:
        # Ranks launch the same kernels: one judges them.
        return
    drawn = seed_after_code(config.spec, config.source.seed)
    kernels = kernels_of(config.spec, config.stack)
    for done, kernel in enumerate(kernels):
        progress(OPS_SHARE * done / len(kernels), f"kernel {kernel.name} against its eager twin")
        for dtype in judged_dtypes(kernel, target.dtype):
            held = verdicts.find(kernel.name, dtype) if verdicts else None
            if held is not None:
                yield held.checks, (held.standing,)
                continue
            checks = _on_every_case(kernel, dtype, target, drawn)
            if verdicts:
                verdicts.keep(kernel.name, dtype, checks)
            yield checks, ()


def _on_every_case(kernel: Kernel, dtype: torch.dtype, target: Target, seed: int) -> list[Check]:
    """Far offsets take gigabytes of a device: once, in the target dtype."""
    checks = [check_input_kinds(kernel, dtype, target.device, seed), *check_kernel(kernel, dtype, target.device, seed)]
    if dtype == target.dtype and not any(map(corrupts_memory, checks)):
        checks += check_far(kernel, dtype, target.device, seed)
        if target.device.type == "cuda":
            torch.cuda.empty_cache()
    return checks


def _not_judged(config: builder.BuildConfig, recipe: WeightRecipe) -> tuple[NotJudged, ...]:
    found = []
    if config.target.kernels == "interpreted":
        reason = "Triton's interpreter computes bfloat16 wrongly; bfloat16 kernels are compiled for sm_90, not run"
        found.append(NotJudged(level="op", subject="bfloat16 kernels", reason=reason))
    if config.source.directory is None and recipe == "random":
        reason = "recipe=random asks for flat random weights alone"
        found.append(NotJudged(level="layer", subject="trained-like weights", reason=reason))
    return tuple(found)
