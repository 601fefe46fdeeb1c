"""Peer arms by name."""

from __future__ import annotations

from collections.abc import Callable

from harness.arms.arm import Arm
from harness.arms.hf_static import HFCompiled, HFStatic
from harness.arms.liger import Liger
from harness.arms.reference import Reference
from harness.spec.runtime import HuggingFaceLM

PEERS: dict[str, Callable[[HuggingFaceLM], Arm]] = {
    "reference": Reference,
    "hf_static": HFStatic,
    "hf_reduce_overhead": lambda model: HFCompiled(model, "hf_reduce_overhead", "reduce-overhead"),
    "hf_max_autotune": lambda model: HFCompiled(model, "hf_max_autotune", "max-autotune"),
    "liger": Liger,
}
"""Each takes the Hugging Face model. Names are those of conf/arm, where those of `harness.arms.sibling` stand beside
them."""
