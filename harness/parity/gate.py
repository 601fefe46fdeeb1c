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
from harness.parity.vision import check_language, check_vision
from harness.ranks import earliest
from harness.record import Check, Divergence, NotJudged, Parity
from harness.rounding import lossy, rounded
from harness.spec import ModelInputs, ModelSpec, Receipt, Target

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
        self.unrounded, self.plain = (
            Plain(model, spec.routing, spec.decoder, spec.vision) for model in (hf, rounded(spec, hf, stack))
        )
        self.model: Any
        self.model, self.receipts = build.candidate(spec, source, hf, stack, target)

    def prompt(self, extent: Extent, most_images: int, purpose: str) -> ModelInputs:
        """Prompts of `most_images` images, one less in each next row, down to none and from there again."""
        shown = [(most_images - row) % (most_images + 1) for row in range(extent.batch)]
        drawn = inputs.draw(self.spec, self.source.config, extent.prompt_tokens, shown, self.source.seed, purpose)
        return drawn.to(self.target.device, self.target.dtype)

    def in_fp32(self, extent: Extent) -> tuple[list[Check], Divergence | None]:
        """The maths itself: layers teacher-forced, and logits to 1e-5 (deep models: 3 times their own fp32 noise)."""
        prompt = self.prompt(extent, 1, "fp32")
        seen = self._seen(prompt)
        if self.spec.vision is not None:
            seen.append(check_language(self.model, self.plain, prompt))
        layers, divergence = self._layers(prompt)
        wide, routes = self.plain.wide_logits(prompt)
        theirs = self.plain.logits(prompt, routes)
        noise = relative_frobenius(theirs, wide)
        with our_choices(self.model, self.spec.routing, routes):
            error = relative_frobenius(self._ours(prompt), theirs)
        moved = self._moves(prompt, theirs)
        batch, tokens = prompt.tokens.shape
        logits = Check(
            level="logits",
            subject="logits float32",
            name=f"{batch} x {tokens} tokens",
            rule="relative Frobenius",
            error=error if error < float("inf") else 1e9,
            noise=noise,
            limit=max(FP32_LIMIT, FP32_NOISE_FACTOR * noise),
        )
        return [*seen, *layers, logits, moved], _first_op(seen) or divergence

    def in_target(self, extent: Extent) -> tuple[list[Check], Divergence | None]:
        prompt = self.prompt(extent, 2, "target")
        seen = self._seen(prompt)
        layers, divergence = self._layers(prompt)
        generated = generate(self.plain, prompt, extent.new_tokens)
        wide, routes = self.plain.wide_logits(generated.inputs)
        plain = self.plain.logits(generated.inputs, routes)
        reference = Reference(wide.flatten(0, 1), plain.flatten(0, 1))
        last = slice(extent.prompt_tokens - 1, -1)
        # While it generated, a model with experts went its own way; what is replayed is compared with what is replayed.
        stepwise = plain[:, last] if self.spec.routing else generated.logits
        with our_choices(self.model, self.spec.routing, routes):
            ours = self._ours(generated.inputs).flatten(0, 1)
            checks = [*seen, *layers, *judge_logits(ours, reference, "logits", f"logits {_name(self.target.dtype)}")]
            checks.append(_rejects(ours, reference))
            decoded = forced(self.model, generated, self.model.decode)
            checks += check_generation(decoded, wide[:, last], stepwise, generated)
            checks += check_paths(self.model, self.spec, self.stack, self.target, generated, wide, plain, stepwise)
        checks += [*self._flips(generated.inputs, routes), *self._loss(extent)]
        return checks, _first_op(seen) or divergence

    def _loss(self, extent: Extent) -> list[Check]:
        """What a lossy stack costs, on text that the unrounded model says itself."""
        if self.source.directory is None or not lossy(self.spec, self.stack):
            return []
        rows = min(LOSS_ROWS, extent.batch)
        text = generate(self.unrounded, self.prompt(replace(extent, batch=rows), 0, "loss"), LOSS_TOKENS)
        before, said = slice(extent.prompt_tokens - 1, -1), text.inputs.tokens[:, extent.prompt_tokens :]
        ours, theirs = self._ours(text.inputs)[:, before], self.unrounded.logits(text.inputs)[:, before]
        return judge_loss(self.spec, self.stack, ours, theirs, said, self.source.seed)

    def _ours(self, prompt: ModelInputs) -> Tensor:
        out: Tensor = self.model(prompt.tokens, inputs.prepared(self.model, prompt, prompt.tokens.shape[1]))
        return out

    def _seen(self, prompt: ModelInputs) -> list[Check]:
        """The stages before the decoder layers; none for a model of text alone."""
        vision = self.spec.vision
        if vision is None:
            return []
        return check_vision(self.model, self.plain, vision, vision.parts(self.source.config), prompt)

    def _flips(self, prompt: ModelInputs, wide: Routes) -> list[Check]:
        if self.spec.routing is None:
            return []
        ours, plain = Routes(), Routes()
        self.plain.logits(prompt, made=plain)
        with our_choices(self.model, self.spec.routing, None, ours.layers.__setitem__):
            self._ours(prompt)
        return [judge_flips(ours, plain, wide)]

    def _layers(self, prompt: ModelInputs) -> tuple[list[Check], Divergence | None]:
        hidden = self.plain.layer_inputs(prompt)
        layers = check_layers(self.model, self.plain, prompt, hidden, f"residual delta {_name(self.target.dtype)}")
        checks = [check for layer in layers for check in layer]
        broken = next((i for i, layer in enumerate(layers) for c in layer if not c.passed), None)
        index = earliest(self.target, broken)
        if index is None:
            return checks, None
        found = localize(self.model, self.plain, index, prompt, hidden[index], self.spec.stages)
        check = next((c for c in layers[index] if not c.passed), None)
        if found is not None or check is None:
            return checks, found
        whole = check is layers[index][-1]
        stage, op = ("layer output", "residual add") if whole else ("router", "router")
        return checks, _of(check, index, stage, op)

    def _moves(self, prompt: ModelInputs, theirs: Tensor) -> Check:
        """The reference must react to its input, or agreeing with it says nothing. Images keep their places."""
        text = ~prompt.shows()
        tokens = prompt.tokens.clone()
        tokens[text] = tokens[text].flip(0)
        other = self.plain.logits(prompt.continued(tokens))
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
