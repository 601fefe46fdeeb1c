"""Name a stack by what it lacks and adds to the full stack of its model: `full - cuda_kernels + linear_int4`. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.spec.optimization import Menu


@dataclass(frozen=True)
class Named:
    """One stack of one model by both of its names."""

    model: str
    name: str
    members: str
    """Joined by plus signs."""

    def sentence(self) -> str:
        return f"`{self.name}` of {self.model} is {self.members}"


@dataclass(frozen=True)
class StackNames:
    """Short names of stacks, for readers alone: records keep every member."""

    full: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Model -> the members of its full stack, in the order of its menu. Stacks of a model that is not here have no
    shorter name than their members."""

    @classmethod
    def of_menus(cls, menus: Mapping[str, Menu]) -> StackNames:
        return cls({model: tuple(name for name in menu.names() if name in menu.full) for model, menu in menus.items()})

    def digest(self) -> str:
        """Differs where any stack may be named otherwise."""
        return hashlib.sha256(json.dumps(dict(self.full), sort_keys=True).encode()).hexdigest()[:16]

    def of(self, model: str, members: Sequence[str]) -> str:
        """The short name, or the members joined by plus signs where that is no longer."""
        plain, whole = "+".join(members) or "none", self.full.get(model, ())
        if not members or not whole:
            return plain
        less = [f"- {name}" for name in whole if name not in members]
        more = [f"+ {name}" for name in members if name not in whole]
        named = " ".join(["full", *less, *more])
        return named if len(named) < len(plain) else plain

    def label(self, text: str) -> str:
        """Text that begins with `Case.label()`, its stack by the short name."""
        named = self._named(text)
        if named is None:
            return text
        case, _, rest = text.split(" ", 2)
        return f"{case} {named.name} on {rest}"

    def legend(self, labels: Iterable[str]) -> tuple[Named, ...]:
        """What the short names stand for that `label` gives these, each once."""
        return tuple(dict.fromkeys(named for named in map(self._named, labels) if named))

    def _named(self, label: str) -> Named | None:
        """The stack of a label, where its name is not the list of its members."""
        words = label.split(" ", 2)
        if len(words) < 3:
            return None
        model, members = words[0].partition("/")[0], words[1]
        name = self.of(model, () if members == "none" else members.split("+"))
        return None if name == members else Named(model, name, members)


BY_MEMBERS = StackNames()
"""No short names."""
