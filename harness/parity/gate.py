"""The whole proof of one build: fp32 first, then the target dtype, from single kernels up to generation."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness import build, inputs
from harness.parity.generation import check_generation, forced, generate
from harness.parity.layer import check_layers, localize
from harness.parity.logits import FP32_LIMIT, FP32_NOISE_FACTOR, Reference, judge_logits
from harness.parity.loss import LOSS_ROWS, LOSS_TOKENS, judge_loss, unjudged_loss
from harness.parity.op import check_kernel
from harness.parity.paths import check_paths
from harness.parity.plain import Plain
from harness.parity.routing import Routes, judge_flips, our_choices
from harness.parity.rules import relative_frobenius, worst
from harness.ranks import earliest
from harness.record import Check, Divergence, NotJudged, Parity
from harness.rounding import lossy, rounded
from harness.spec import ModelSpec, Receipt, Target

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Extent:
    """How much is fed to the proof."""

    batch: int
    prompt_tokens: int
    new_tokens: int = 64


@dataclass(frozen=True)
class Proof:
    parity: Parity
    receipts: tuple[Receipt, ...]


@torch.no_grad()
def prove(
    spec: ModelSpec, source: build.Source, stack: Sequence[str], target: Target, extent: Extent, progress: Progress
) -> Proof:
    """Judge the stack on every level. A failure does not stop the levels after it: the report shows them all."""
    began = time.perf_counter()
    progress(0.0, "kernels against their eager twins")
    checks = _ops(spec, stack, target, source.seed)
    progress(0.3, "fp32 layers and logits")
    single = replace(target, dtype=torch.float32)
    fp32, found = _Bench(spec, source, stack, single).in_fp32(
        Extent(min(2, extent.batch), min(64, extent.prompt_tokens))
    )
    checks += fp32
    _release(target)
    progress(0.6, f"{_name(target.dtype)} layers, logits, generation and paths")
    bench = _Bench(spec, source, stack, target)
    reduced, divergence = bench.in_target(extent)
    checks += reduced
    parity = Parity(
        checks=tuple(checks),
        not_judged=(*_not_judged(target), *unjudged_loss(spec, stack, source.directory is not None)),
        first_divergence=found or divergence or _first_op(checks),
        wall_s=time.perf_counter() - began,
    )
    return Proof(parity, bench.receipts)


def _release(target: Target) -> None:
    """Give back the device memory of models that only reference cycles still hold: the next two may need all of it."""
    gc.collect()
    if target.device.type == "cuda":
        torch.cuda.empty_cache()


def _ops(spec: ModelSpec, stack: Sequence[str], target: Target, seed: int) -> list[Check]:
    kernels = {kernel.name: kernel for name in stack for kernel in spec.menu[name].kernels}
    if target.kernels == "none" or target.rank:
        # Ranks launch the same kernels: one judges them.
        return []
    dtypes = dict.fromkeys((torch.float32, target.dtype))
    return [
        check for kernel in kernels.values() for d in dtypes for check in check_kernel(kernel, d, target.device, seed)
    ]


class _Bench:
    """The reference and the candidate side by side, in one dtype."""

    def __init__(self, spec: ModelSpec, source: build.Source, stack: Sequence[str], target: Target) -> None:
        self.spec, self.source, self.stack, self.target = spec, source, stack, target
        hf = build.reference(spec, source, target.dtype, target.device)
        self.unrounded, self.plain = Plain(hf, spec.routing), Plain(rounded(spec, hf, stack), spec.routing)
        self.model: Any
        self.model, self.receipts = build.candidate(spec, source, hf, stack, target)

    def prompt(self, extent: Extent, purpose: str) -> Tensor:
        return inputs.prompt(
            self.source.config, extent.batch, extent.prompt_tokens, self.source.seed, purpose, self.target.device
        )

    def in_fp32(self, extent: Extent) -> tuple[list[Check], Divergence | None]:
        """The maths itself: layers teacher-forced, and logits to 1e-5 (deep models: 3 times their own fp32 noise)."""
        tokens = self.prompt(extent, "fp32")
        layers, divergence = self._layers(tokens)
        wide, routes = self.plain.wide_logits(tokens)
        theirs = self.plain.logits(tokens, routes)
        noise = relative_frobenius(theirs, wide)
        with our_choices(self.model, self.spec.routing, routes):
            ours = self.model(tokens, self.model.new_cache(*tokens.shape))
        error = relative_frobenius(ours, theirs)
        moved = self._moves(tokens, theirs)
        logits = Check(
            level="logits",
            subject="logits float32",
            name=f"{tokens.shape[0]} x {tokens.shape[1]} tokens",
            rule="relative Frobenius",
            error=error if error < float("inf") else 1e9,
            noise=noise,
            limit=max(FP32_LIMIT, FP32_NOISE_FACTOR * noise),
        )
        return [*layers, logits, moved], divergence

    def in_target(self, extent: Extent) -> tuple[list[Check], Divergence | None]:
        prompt = self.prompt(extent, "target")
        generated = generate(self.plain, prompt, extent.new_tokens)
        tokens = generated.tokens
        layers, divergence = self._layers(prompt)
        wide, routes = self.plain.wide_logits(tokens)
        plain = self.plain.logits(tokens, routes)
        reference = Reference(wide.flatten(0, 1), plain.flatten(0, 1))
        last = slice(extent.prompt_tokens - 1, -1)
        # While it generated, a model with experts went its own way; what is replayed is compared with what is replayed.
        stepwise = plain[:, last] if self.spec.routing else generated.logits
        with our_choices(self.model, self.spec.routing, routes):
            ours = self.model(tokens, self.model.new_cache(*tokens.shape)).flatten(0, 1)
            checks = layers + judge_logits(ours, reference, "logits", f"logits {_name(self.target.dtype)}")
            checks.append(_rejects(ours, reference))
            decoded = forced(self.model, generated, self.model.decode)
            checks += check_generation(decoded, wide[:, last], stepwise, generated)
            checks += check_paths(self.model, self.spec, self.stack, self.target, generated, wide, plain, stepwise)
        return [*checks, *self._flips(tokens, routes), *self._loss(extent)], divergence

    def _loss(self, extent: Extent) -> list[Check]:
        """What a lossy stack costs, on text that the unrounded model says itself."""
        if self.source.directory is None or not lossy(self.spec, self.stack):
            return []
        text = generate(self.unrounded, self.prompt(extent, "loss")[:LOSS_ROWS], LOSS_TOKENS)
        theirs = self.unrounded.logits(text.tokens)
        ours = self.model(text.tokens, self.model.new_cache(*text.tokens.shape))
        said = slice(text.prompt_tokens - 1, -1)
        chosen = text.tokens[:, text.prompt_tokens :]
        return judge_loss(self.spec, self.stack, ours[:, said], theirs[:, said], chosen, self.source.seed)

    def _flips(self, tokens: Tensor, wide: Routes) -> list[Check]:
        if self.spec.routing is None:
            return []
        ours, plain = Routes(), Routes()
        self.plain.logits(tokens, made=plain)
        with our_choices(self.model, self.spec.routing, None, ours.layers.__setitem__):
            self.model(tokens, self.model.new_cache(*tokens.shape))
        return [judge_flips(ours, plain, wide)]

    def _layers(self, tokens: Tensor) -> tuple[list[Check], Divergence | None]:
        hidden = self.plain.layer_inputs(tokens)
        layers = check_layers(self.model, self.plain, hidden, f"residual delta {_name(self.target.dtype)}")
        checks = [check for layer in layers for check in layer]
        broken = next((i for i, layer in enumerate(layers) for c in layer if not c.passed), None)
        index = earliest(self.target, broken)
        if index is None:
            return checks, None
        found = localize(self.model, self.plain, index, hidden[index], self.spec.stages)
        check = next((c for c in layers[index] if not c.passed), None)
        if found is not None or check is None:
            return checks, found
        whole = check is layers[index][-1]
        stage, op = ("layer output", "residual add") if whole else ("router", "router")
        return checks, _of(check, index, stage, op)

    def _moves(self, tokens: Tensor, theirs: Tensor) -> Check:
        """The reference must react to its input, or agreeing with it says nothing."""
        other = self.plain.logits(tokens.flip(1))
        return _sensitivity("reference", "reversed prompt", int(torch.equal(other, theirs)), "")


def _rejects(ours: Tensor, reference: Reference) -> Check:
    """An all-zeros and a shuffled answer must be refused by the very rules that passed the candidate."""
    fakes = {"zeros": torch.zeros_like(ours), "shuffled": ours.roll(1, dims=-1)}
    accepted = [n for n, fake in fakes.items() if worst(judge_logits(fake, reference, "logits", n)).passed]
    return _sensitivity("gate", "zeros and shuffled logits", len(accepted), ", ".join(accepted))


def _sensitivity(subject: str, name: str, unmoved: int, where: str) -> Check:
    return Check(
        level="logits", subject=subject, name=name, rule="sensitivity", error=unmoved, noise=0, limit=0, where=where
    )


def _first_op(checks: Sequence[Check]) -> Divergence | None:
    broken = next((check for check in checks if not check.passed), None)
    return _of(broken, None, broken.subject, broken.name) if broken else None


def _of(check: Check, layer: int | None, stage: str, op: str) -> Divergence:
    return Divergence(
        layer=layer, stage=stage, op=op, rule=check.rule, where=check.where, error=check.error, limit=check.limit
    )


def _not_judged(target: Target) -> tuple[NotJudged, ...]:
    if target.kernels == "interpreted":
        reason = "Triton's interpreter computes bfloat16 wrongly; bfloat16 kernels are compiled for sm_90, not run"
        return (NotJudged(level="op", subject="bfloat16 kernels", reason=reason),)
    return ()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
