"""Which arms a case has, and which of them are fed the same bytes."""

from __future__ import annotations

import time
from typing import NamedTuple

from torch import nn

from harness.build import builder
from harness.build.reference_integrity import ReferenceIntegrity
from harness.parity.kernels.kernel_checks import kernels_of
from harness.records.case import Case
from harness.records.record import CANDIDATE, CONTROL
from harness.spec.runtime import hugging_face_lm, prefix_lm
from harness.timing.arms.arm import Arm, timed_s
from harness.timing.arms.by_name import PEERS
from harness.timing.arms.candidate import Candidate, OurBuild
from harness.timing.arms.prefix_hit import COLD, PrefixHit
from harness.timing.arms.sibling import LABELS, Sibling

SHARED_STREAM = "shared"
"""Of the candidate and of the arms that none of our code runs in."""


class LineUp(NamedTuple):
    peers: list[Arm]
    ours: list[Arm]
    ours_s: float
    """Seconds that the build took which all of `ours` are."""


def line_up(case: Case, config: builder.BuildConfig, hf: nn.Module) -> LineUp:
    """The arms of a case beside the Hugging Face model `hf`, none of them opened; the candidate is built."""
    shared = case.workload.shared_prefix_tokens
    peers = [_peer(name, config, hf, shared) for name in case.arms]
    began = time.perf_counter()
    integrity = ReferenceIntegrity(hf)
    model = builder.candidate(config, hf, integrity.look).model
    integrity.require()
    ours_s = timed_s(config.target.device, began)
    told = dict(zip(case.optimizations, case.stacked(), strict=True))
    label = "+".join(told[name] for name in config.stack) or "eager build"
    kernels = kernels_of(config.spec, config.stack) if config.target.kernels != "none" else ()
    if shared and "prefix_cache" in config.provides:
        hits = [PrefixHit(prefix_lm(model), name, label, shared, kernels) for name in (CANDIDATE, CONTROL)]
        return LineUp(peers, [Candidate(model, COLD, f"{label}, nothing cached", kernels), *hits], ours_s)
    return LineUp(peers, [Candidate(model, name, label, kernels) for name in (CANDIDATE, CONTROL)], ours_s)


def stream_of(arm: Arm) -> str:
    """Arms of one stream are fed the same bytes. Each further build of ours has its own, or one could remember what
    another computed: the candidate and its control are one model."""
    return arm.name if isinstance(arm, OurBuild) and arm.name != CANDIDATE else SHARED_STREAM


def _peer(name: str, config: builder.BuildConfig, hf: nn.Module, shared: int) -> Arm:
    if name in LABELS:
        return Sibling(name, config, hf, shared)
    return PEERS[name](hugging_face_lm(hf))
