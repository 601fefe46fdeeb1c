"""What rounded weights cost: the lossy build against the unrounded reference (docs/method.md 1.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.build.builder import BuildConfig
from harness.build.quantized_reference import displaced, lossy, schemes
from harness.errors import HarnessError
from harness.parity.levels.quantization_schemes import check_scheme, nearest_code
from harness.records.checks import Check, NotJudged
from harness.spec.model import ModelSpec

KL_LIMIT = {"near_lossless": 1e-3, "four_bit": 0.03}
FLIP_LIMIT = {"near_lossless": 0.01, "four_bit": 0.08}
"""Share of tokens whose first choice may change."""
LOSS_ROWS, LOSS_TOKENS = 4, 256
RESAMPLES = 1000
INTERVAL = (0.025, 0.975)


def unjudged_loss(config: BuildConfig) -> tuple[NotJudged, ...]:
    """Random weights have nothing to lose: what an optimization costs them says nothing of a trained model."""
    if config.source.directory is not None:
        return ()
    reason = "not judged: needs real weights"
    names = lossy(config.spec, config.stack)
    return tuple(NotJudged(level="logits", subject=f"loss of {name}", reason=reason) for name in names)


def check_rounding(spec: ModelSpec, unrounded: nn.Module, held: nn.Module, stack: Sequence[str]) -> list[Check]:
    """That no weight of `held` is farther from the one it was rounded from than the nearest code can be, and that none
    of a hard matrix would be."""
    if not lossy(spec, stack):
        return []
    found = list(displaced(spec, unrounded, held, stack))
    if not found:
        raise HarnessError(f"{', '.join(lossy(spec, stack))} rounds no weight of {spec.name}: nothing could be lossy")
    names = [spec.rename(name) for name, _ in found]
    like = next(unrounded.parameters())
    return [
        *(check_scheme(scheme, like.dtype, like.device) for scheme in schemes(spec, names, stack)),
        nearest_code("rounded weights", f"{len(found)} matrices", found),
    ]


def judge_loss(
    spec: ModelSpec, stack: Sequence[str], ours: Tensor, theirs: Tensor, said: Tensor, seed: int
) -> list[Check]:
    """ours and theirs [B, T, vocab] before each token of `said` [B, T]: mean KL, by the upper end of its bootstrap
    interval over tokens, and the share of first choices that changed; by the loosest class in the stack."""
    names = lossy(spec, stack)
    classes = {spec.menu[name].numerics for name in names}
    numerics = "four_bit" if "four_bit" in classes else "near_lossless"
    pairs = [_row(o, t, s) for o, t, s in zip(ours, theirs, said, strict=True)]
    kl, flipped, surprise = (torch.cat(column) for column in zip(*pairs, strict=True))
    low, high = _interval(kl, seed)
    tail, ratio = float(kl.quantile(0.999)), float(surprise.mean().exp())
    detail = f"mean {float(kl.mean()):.3g}, 95 % {low:.3g} to {high:.3g}, 99.9 % below {tail:.3g}"
    found = (
        ("mean KL", high, KL_LIMIT[numerics], f"{detail}, perplexity x {ratio:.4f}"),
        ("top-1", float(flipped.mean()), FLIP_LIMIT[numerics], f"{int(flipped.sum())} of {flipped.numel()} changed"),
    )
    return [
        Check(
            level="logits",
            subject=f"loss of {', '.join(names)}",
            name=f"{said.shape[0]} x {said.shape[1]} tokens",
            rule=rule,
            error=error,
            noise=0,
            limit=limit,
            where=where,
        )
        for rule, error, limit, where in found
    ]


def _row(ours: Tensor, theirs: Tensor, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per token, float64: KL from theirs to ours, whether the first choice changed, and how much less ours expected
    what was said."""
    mine, truth = ours.double().log_softmax(-1), theirs.double().log_softmax(-1)
    kl = (truth.exp() * (truth - mine)).sum(-1)
    lost = (truth - mine).gather(1, said[:, None])[:, 0]
    return kl, (mine.argmax(-1) != truth.argmax(-1)).double(), lost


def _interval(values: Tensor, seed: int) -> tuple[float, float]:
    """Bootstrap interval of the mean."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    means = values.cpu()[drawn].mean(1)
    low, high = (float(means.quantile(q)) for q in INTERVAL)
    return low, high
