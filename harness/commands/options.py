"""Options of a command in the grammar of `python -m harness`: KEY=VALUE, beside words and Hydra's overrides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from harness.errors import UnknownName, UserError
from harness.machine.installation import WORK

_OPTION = re.compile(r"\+?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
HELP = ("-h", "--help")
RECORDS = Path("benchmark_results")


def whole(text: str) -> int:
    """A whole number of at least 1. ValueError says what is wrong, as all readers of this file do."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number of at least 1")
    return int(text)


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


def seed(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("a whole number")
    return int(text)


def flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("a day, YYYY-MM-DD") from None


def one_of(*names: str) -> Callable[[str], str]:
    """A reader that admits these names alone."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return text

    return read


@dataclass(frozen=True)
class Option:
    """`name=VALUE`. Of several the last one counts, as in Hydra; one that `repeats` is a tuple of all of them."""

    name: str
    about: str
    default: Any = None
    read: Callable[[str], Any] = str
    repeats: bool = False

    def line(self) -> str:
        default = self.default
        if isinstance(default, Path) and default.is_relative_to(WORK):
            default = default.relative_to(WORK)
        shown = "" if default in (None, False, ()) else f" ({default})"
        return f"  {self.name}={'true' if self.read is flag else 'VALUE'}".ljust(22) + f"{self.about}{shown}"


@dataclass(frozen=True)
class Asked:
    """What was asked of a command: its words, its options by name, and Hydra's overrides in their order."""

    words: tuple[str, ...]
    options: Mapping[str, Any]
    overrides: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        return self.options[name]


@dataclass(frozen=True)
class Usage:
    """How a command is asked for. `about` is its whole help but the list of options; one that does not take
    `overrides` refuses every option that is not its own."""

    command: str
    about: str
    options: tuple[Option, ...] = ()
    overrides: bool = False
    words: range = field(default=range(1))
    """How many words without `=` it takes."""

    def help(self, words: Sequence[str] = ()) -> str:
        """The same whatever further words stand beside `--help`."""
        lines = "\n".join(option.line() for option in self.options)
        return f"{self.about.strip()}\n" + (f"\noptions:\n{lines}" if lines else "")

    def read(self, arguments: Sequence[str]) -> Asked:
        """UserError names the argument that is none of this command's, or has no such value."""
        known = {option.name: option for option in self.options}
        given: dict[str, list[Any]] = {}
        words, overrides = [], []
        for argument in arguments:
            found = _OPTION.fullmatch(argument)
            if found and found[1] in known:
                given.setdefault(found[1], []).append(self._value(known[found[1]], found[2]))
            elif argument.startswith("-"):
                raise UserError(self._dashed(argument, known))
            elif "=" not in argument and not argument.startswith(("+", "~")):
                words.append(argument)
            elif self.overrides:
                overrides.append(argument)
            else:
                raise UnknownName(f"option of {self.command}", argument.partition("=")[0].lstrip("+"), known)
        if len(words) not in self.words:
            raise UserError(f"{self.command}: {len(words)} words ({' '.join(words) or 'none'}): {self._form()}")
        options = {option.name: self._given(option, given) for option in self.options}
        return Asked(tuple(words), options, tuple(overrides))

    def _value(self, option: Option, text: str) -> Any:
        try:
            return option.read(text)
        except ValueError as error:
            raise UserError(f"{self.command}: {option.name}={text}: must be {error}") from None

    def _given(self, option: Option, given: Mapping[str, list[Any]]) -> Any:
        if option.repeats:
            return tuple(given.get(option.name, ()))
        return given.get(option.name, [option.default])[-1]

    def _dashed(self, argument: str, known: Mapping[str, Option]) -> str:
        name = argument.lstrip("-").partition("=")[0].replace("-", "_")
        if name in known:
            return f"{self.command}: '{argument}' is written {known[name].line().split()[0]}"
        return f"{self.command}: '{argument}' is no option: {self._form()}"

    def _form(self) -> str:
        return f"python -m harness {self.command} --help shows how to ask"
