"""Peer arms by name."""

from __future__ import annotations

from collections.abc import Callable

from harness.spec.runtime import HuggingFaceLM
from harness.timing.arms.arm import Arm
from harness.timing.arms.hf_reference import Reference
from harness.timing.arms.hf_static import HFCompiled, HFStatic
from harness.timing.arms.liger import Liger

PEERS: dict[str, Callable[[HuggingFaceLM], Arm]] = {
    "reference": Reference,
    "hf_static": HFStatic,
    "hf_reduce_overhead": lambda model: HFCompiled(model, "hf_reduce_overhead", "reduce-overhead"),
    "hf_max_autotune": lambda model: HFCompiled(model, "hf_max_autotune", "max-autotune"),
    "liger": Liger,
}
"""Each takes the Hugging Face model. Names are those of conf/arm, where those of `harness.timing.arms.sibling` stand
beside them."""
