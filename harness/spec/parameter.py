"""Declare what an optimization is made of: numbers and choices that a run may set instead of their defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from harness.errors import ConfigError, UnknownName

V = TypeVar("V")
Value = int | str
Values = Mapping[str, Value]
"""Parameter name -> value; across a stack the name is `OPTIMIZATION.PARAMETER`."""


@dataclass(frozen=True)
class Parameter:
    """Declare one argument that an optimization's `apply` takes by name.

    The name ends in its unit where the number has one (`page_tokens`, `max_kib`).
    """

    name: str
    default: Value
    allowed: range | tuple[Value, ...]
    """A range of whole numbers, its step included, or every value there is."""
    help: str
    """One sentence."""

    def check(self, owner: str, value: object) -> Value:
        """Return `value` where it is allowed; raise ConfigError, naming `owner.name` and the range, where it is not."""
        if type(value) is type(self.default) and value in self.allowed:
            return value
        kind = "a whole number" if isinstance(self.default, int) else "a word"
        raise ConfigError(f"optimization.{owner}.{self.name}={value}: must be {kind}, {self.span()}")

    def span(self) -> str:
        """Describe the allowed values: `1 to 64`, `16 to 1024 in steps of 16`, or `16, 32 or 64`."""
        if isinstance(self.allowed, range):
            step = f" in steps of {self.allowed.step}" if self.allowed.step > 1 else ""
            return f"{self.allowed[0]} to {self.allowed[-1]}{step}"
        *others, last = map(str, self.allowed)
        return f"{', '.join(others)} or {last}" if others else last


def find(owner: str, name: str, declared: Iterable[Parameter]) -> Parameter:
    """Return the parameter of that name; raise UnknownName, with the nearest, or ConfigError where there is none."""
    known = {parameter.name: parameter for parameter in declared}
    if not known:
        raise ConfigError(f"optimization.{owner}.{name}: '{owner}' has no parameters")
    if name not in known:
        raise UnknownName(f"parameter of '{owner}'", name, known)
    return known[name]


def own_values(owner: str, values: Mapping[str, V]) -> dict[str, V]:
    """Return those of a stack's `OPTIMIZATION.PARAMETER` -> value that are of one optimization, by its own names."""
    split = {tuple(key.split(".", 1)): value for key, value in values.items()}
    return {parameter: value for (optimization, parameter), value in split.items() if optimization == owner}
