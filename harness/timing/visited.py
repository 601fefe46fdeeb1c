"""How many experts the tokens of a call visit: a floor that counts more of them is no floor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from harness.parity.reference.routing import gate_of
from harness.spec.model import Routing


def experts_visited(
    layers: nn.ModuleList, routing: Routing, batch: int, tokens: int, call: Callable[[], object]
) -> float:
    """Distinct experts that the last `tokens` tokens of each of `batch` rows visit in a layer that chooses: the mean
    over the Hugging Face `layers` that do, and over the passes that `call` makes through them."""
    found: list[int] = []

    def count(_: nn.Module, __: Any, out: Any) -> None:
        chosen = out[2].view(batch, -1, out[2].shape[-1])
        found.append(chosen[:, -tokens:].unique().numel())

    gates = [gate for layer in layers if (gate := gate_of(layer, routing.reference)) is not None]
    handles = [gate.register_forward_hook(count) for gate in gates]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return sum(found) / len(found)
