"""Cases to shards: longest first onto the least loaded machine that can hold them. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from harness.errors import UserError

SHARD = re.compile(r"^([1-9]\d{0,4})/([1-9]\d{0,4})$")


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count`, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`2/8`. UserError for anything else, such as a shard past the last one."""
        match = SHARD.match(text)
        if match is None or int(match[1]) > int(match[2]):
            raise UserError(f"shard '{text}' is not I/N with 1 <= I <= N: no case would be in it")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class Item:
    """One case: its estimated seconds and what it needs at once."""

    key: str
    cost_s: float
    gpus: int = 0
    memory_bytes: int = 0
    """Of one device."""


@dataclass(frozen=True)
class Machine:
    """What one shard runs on. `memory_bytes` is of one device; None is unknown and holds everything."""

    gpus: int = 0
    memory_bytes: int | None = None

    def holds(self, item: Item) -> bool:
        return item.gpus <= self.gpus and (self.memory_bytes is None or item.memory_bytes <= self.memory_bytes)

    def load_s(self, item: Item) -> float:
        """Seconds that an item adds: a machine runs one case on each of its GPUs at a time."""
        return item.cost_s * max(1, item.gpus) / max(1, self.gpus)


@dataclass(frozen=True)
class Group:
    """The items of one shard, longest first, and the seconds that they take."""

    keys: tuple[str, ...]
    load_s: float


def split(items: Sequence[Item], machines: Sequence[Machine], salt: str) -> tuple[Group, ...]:
    """One group for each machine. The same items, machines and salt (a plan's hash) give the same groups in whatever
    order the items come. UserError names an item that no machine can hold."""
    loads = [0.0] * len(machines)
    keys: list[list[str]] = [[] for _ in machines]
    for item in sorted(items, key=lambda item: (-item.cost_s * max(1, item.gpus), _mixed(salt, item.key))):
        able = [index for index, machine in enumerate(machines) if machine.holds(item)]
        if not able:
            raise UserError(
                f"case {item.key} needs {item.gpus} GPU(s) and {item.memory_bytes / 2**30:.0f} GiB on a device: no "
                "shard's machine has them, and it would never run"
            )
        chosen = min(able, key=lambda index: (loads[index] + machines[index].load_s(item), index))
        loads[chosen] += machines[chosen].load_s(item)
        keys[chosen].append(item.key)
    return tuple(Group(tuple(held), load) for held, load in zip(keys, loads, strict=True))


def imbalance(groups: Sequence[Group]) -> float:
    """The longest shard over the mean; 1 is perfect."""
    mean = sum(group.load_s for group in groups) / len(groups)
    return max(group.load_s for group in groups) / mean if mean else 1.0


def _mixed(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt} {key}".encode()).hexdigest()
