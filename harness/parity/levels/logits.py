"""Logits against a wide reference, with the plain model's own error as the measure (docs/method.md 1.4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from harness.parity.tolerance.rules import relative_frobenius, worst
from harness.records.checks import UNBOUNDED, Check, Level

FP32_LIMIT = 1e-5
"""Relative Frobenius error of fp32 logits: correct variants measure 3e-7 to 8e-7, the smallest planted bug 7.5e-5."""
FP32_NOISE_FACTOR = 3.0
"""Where depth makes the plain model's own fp32 error exceed a third of FP32_LIMIT, its multiple is the limit: two right
builds of 36 layers at hidden size 2560 were seen 9.7e-6 apart on a GPU."""
MAX_FACTOR, RMS_FACTOR, TOKEN_FACTOR, KL_FACTOR = 2.2, 1.25, 2.0, 1.5
KL_FLOOR = 1e-6
FP32_RMS_FACTOR = 3.0
"""In fp32 two right builds differ by summation order alone, and either may be the luckier one."""


@dataclass(frozen=True)
class Reference:
    """What a set of logits is held against: the wide reference and the plain model's logits, both [B, T, vocab], or
    [N, vocab] where nobody knows whose the tokens are."""

    upcast: Tensor
    plain: Tensor

    def flat(self) -> Reference:
        """Both as [N, vocab]."""
        return Reference(self.upcast.flatten(0, -2), self.plain.flatten(0, -2))


def judge_logits(ours: Tensor, reference: Reference, level: Level, subject: str) -> list[Check]:
    """ours, shaped as the reference, in the target dtype: maximum, RMS, worst token, mean KL, and top-1 flips that no
    near-tie explains."""
    about = partial(Check, level=level, subject=subject, name="logits")
    if ours.shape != reference.plain.shape:
        wrong = f"shape {tuple(ours.shape)} instead of {tuple(reference.plain.shape)}"
        return [about(rule="structure", error=1, noise=0, limit=0, where=wrong)]
    place, ours, reference = partial(_place, ours.shape[:-1]), ours.flatten(0, -2), reference.flat()
    bad = ~torch.isfinite(ours)
    if count := int(bad.sum()):
        return [about(rule="finite", error=count, noise=0, limit=0, where=f"first at {place(bad.any(-1))}")]
    found = _Errors.of(ours, reference)
    worst = place(found.ours_rms)
    noisy = [
        about(rule=rule, error=error, noise=noise, limit=factor * noise + floor, where=worst)
        for rule, error, noise, factor, floor in _rules(found, ours.dtype == torch.float32)
    ]
    flipped, illegal = _flips(ours, reference, found)
    count, flips = int(illegal.sum()), int(flipped.sum())
    where = f"of {len(illegal)} judged, first at {place(illegal)}" if count else f"{flips} flips, each at a near-tie"
    return [*noisy, about(rule="top-1", error=count, noise=0, limit=0, where=where)]


def close(ours: Tensor, plain: Tensor, upcast: Tensor, level: Level, subject: str, name: str) -> Check:
    """Logits in float32, held against the plain model's by their relative Frobenius error."""
    error, noise = relative_frobenius(ours, plain), relative_frobenius(plain, upcast)
    return Check(
        level=level,
        subject=subject,
        name=name,
        rule="relative Frobenius",
        error=error if error < float("inf") else UNBOUNDED,
        noise=noise,
        limit=max(FP32_LIMIT, FP32_NOISE_FACTOR * noise),
    )


def judge_path(path: str, ours: Tensor, reference: Reference) -> Check:
    """The worst rule of the logits that another way through the model gives."""
    return worst(judge_logits(ours, reference, "path", path))


def _place(shape: torch.Size, values: Tensor) -> str:
    """Where the first of the largest `values` [N] stands among the tokens that are judged, [B, T] or [N]."""
    index = int(values.double().argmax())
    if len(shape) == 1:
        return f"token {index} of all rows"
    row, token = divmod(index, shape[1])
    return f"batch row {row}, token {token} of {shape[1]}"


def _rules(found: _Errors, single: bool) -> list[tuple[str, float, float, float, float]]:
    """Rule, error, noise, factor on the noise, constant."""
    relax = 2.0 if single else 1.0
    return [
        ("max", float(found.ours_max.max()), float(found.plain_max.max()), relax * MAX_FACTOR, 0.0),
        ("rms", _rms(found.ours_rms), _rms(found.plain_rms), FP32_RMS_FACTOR if single else RMS_FACTOR, 0.0),
        ("worst token", float(found.ours_rms.max()), float(found.plain_rms.max()), relax * TOKEN_FACTOR, 0.0),
        ("mean KL", float(found.ours_kl.mean()), float(found.plain_kl.mean()), relax * KL_FACTOR, KL_FLOOR),
    ]


def _rms(rows: Tensor) -> float:
    return float(rows.square().mean().sqrt())


def _flips(ours: Tensor, reference: Reference, found: _Errors) -> tuple[Tensor, Tensor]:
    """Booleans [N]: whose first choice is another one, and of those whose is so without a near-tie."""
    top = reference.upcast.topk(2, dim=-1)
    margin = (top.values[:, 0] - top.values[:, 1]).double()
    flipped = ours.argmax(-1) != top.indices[:, 0]
    # The plain model's error sets the allowance; with the candidate's own the rule could never fail.
    return flipped, flipped & (margin > 2 * found.plain_max)


@dataclass(frozen=True)
class _Errors:
    """Per row, float64: largest and RMS error, and KL from the wide reference."""

    ours_max: Tensor
    plain_max: Tensor
    ours_rms: Tensor
    plain_rms: Tensor
    ours_kl: Tensor
    plain_kl: Tensor

    @classmethod
    def of(cls, ours: Tensor, reference: Reference) -> _Errors:
        rows = [
            (*_row_errors(o, w), *_row_errors(p, w))
            for o, p, w in zip(
                torch.split(ours, 64), torch.split(reference.plain, 64), torch.split(reference.upcast, 64), strict=True
            )
        ]
        columns = [torch.cat(column) for column in zip(*rows, strict=True)]
        ours_max, ours_rms, ours_kl, plain_max, plain_rms, plain_kl = columns
        return cls(ours_max, plain_max, ours_rms, plain_rms, ours_kl, plain_kl)


def _row_errors(logits: Tensor, upcast: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits, upcast = logits.double(), upcast.double()
    error = logits - upcast
    truth = upcast.log_softmax(-1)
    kl = (truth.exp() * (truth - logits.log_softmax(-1))).sum(-1)
    return error.abs().amax(-1), error.square().mean(-1).sqrt(), kl
