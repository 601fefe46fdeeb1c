"""Checkpoints hold experts one by one; here, as in Hugging Face's own modules, a layer's experts are one tensor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from torch import Tensor

from harness.errors import WeightsError

SINGLE = re.compile(r"^(?P<bank>.*\.experts)\.(?P<expert>\d+)\.(?P<part>gate|up|down)_proj\.weight$")
PARTS = ("gate", "up", "down")


class _Bank:
    """One layer's experts while they arrive."""

    def __init__(self, experts: int) -> None:
        self.experts = experts
        self.held: dict[str, Tensor] = {}
        self.missing = {(expert, part) for expert in range(experts) for part in PARTS}

    def add(self, name: str, expert: int, part: str, tensor: Tensor) -> None:
        if expert >= self.experts:
            raise WeightsError(f"tensor '{name}': the model has {self.experts} experts")
        if (expert, part) not in self.missing:
            raise WeightsError(f"tensor '{name}' comes twice: one of them would be lost")
        self.missing.remove((expert, part))
        halves = 1 if part == "down" else 2
        rows, columns = tensor.shape
        whole = self.held.setdefault(
            "down" if part == "down" else "gate_up", tensor.new_empty((self.experts, halves * rows, columns))
        )
        place = whole[expert, rows:] if part == "up" else whole[expert, :rows]
        if place.shape != tensor.shape:
            raise WeightsError(f"tensor '{name}' has shape {list(tensor.shape)}, others of it {list(place.shape)}")
        place.copy_(tensor)


def merged(tensors: Iterable[tuple[str, Tensor]], experts: int) -> Iterator[tuple[str, Tensor]]:
    """The stream with each layer's `...experts.N.{gate,up,down}_proj.weight` given as `...experts.gate_up_proj`
    [E, 2 I, H], gate rows first, and `...experts.down_proj` [E, H, I], once all of them have come; the rest passes.
    Raises WeightsError naming an expert that is missing, repeated, unknown or mis-shaped."""
    banks: dict[str, _Bank] = {}
    for name, tensor in tensors:
        match = SINGLE.match(name)
        if match is None:
            yield name, tensor
            continue
        bank = banks.setdefault(match["bank"], _Bank(experts))
        bank.add(name, int(match["expert"]), match["part"], tensor[:])
        if not bank.missing:
            del banks[match["bank"]]
            yield f"{match['bank']}.gate_up_proj", bank.held["gate_up"]
            yield f"{match['bank']}.down_proj", bank.held["down"]
    for prefix, bank in banks.items():
        expert, part = min(bank.missing)
        raise WeightsError(f"no tensor for '{prefix}.{expert}.{part}_proj.weight' ({len(bank.missing)} missing)")
