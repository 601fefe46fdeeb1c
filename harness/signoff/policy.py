"""What a sign-off asks, and what may stand in for a part of it: small YAML files."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError

from harness.errors import ConfigError, UnknownName
from harness.machine.installation import CONF
from harness.planning.settings import Kind, PerKind
from harness.records.case import Case, Frozen, TimingSettings
from harness.records.record import Phase

POLICIES = CONF / "policy"
Waivable = Literal["processes", "peers", "prefill", "decode", "memory", "history", "caches"]
"""Requirements that a waiver may stand in for. What is right, and what was run, nobody can waive."""
Noun = TypeVar("Noun", bound=Frozen)


class Protocol(Frozen):
    """How long each process of the timing must have measured."""

    min_blocks: int = Field(ge=3)
    """At least."""
    half_width: PerKind
    """At which measuring stops, at most."""
    margin: PerKind
    """Of the verdicts, exactly."""
    limit_s: float = Field(gt=0)
    """At least. A shorter limit than a protocol's own is no wrong stop: the interval that it leaves is wider."""

    def departures(self, timing: TimingSettings, kind: Kind) -> tuple[str, ...]:
        """Where a timing asked for less than this."""
        half_width, margin = getattr(self.half_width, kind), getattr(self.margin, kind)
        told = {
            f"{timing.min_blocks} blocks, {self.min_blocks} asked": timing.min_blocks >= self.min_blocks,
            f"stopped at an interval of ±{timing.half_width:.2%}, ±{half_width:.2%} asked": timing.half_width
            <= half_width,
            f"a margin of {timing.margin:.2%}, {margin:.2%} asked": timing.margin == margin,
            f"a limit of {timing.limit_s:g} s, {self.limit_s:g} s asked": timing.limit_s >= self.limit_s,
        }
        return tuple(departure for departure, kept in told.items() if not kept)


class Policy(Frozen):
    name: str
    timing: Protocol
    processes: int = Field(ge=1)
    """Fresh processes of the timing."""
    arms: tuple[str, ...]
    phases: dict[Phase, Literal["faster", "same"]]
    """The least verdict of each phase against the strongest arm that ran."""
    memory_ratio: float = Field(gt=0)
    history_points: int = Field(ge=0)
    fresh_caches: bool
    versions: tuple[str, ...]
    waivable: tuple[Waivable, ...]


class Waiver(Frozen):
    """Somebody answers for a requirement that is not met, for these cases and until a day."""

    owner: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    expires: date
    """The last day on which it holds."""
    requirements: tuple[Waivable, ...] = Field(min_length=1)
    cases: tuple[str, ...] = Field(min_length=1)
    """Labels of cases, whole."""

    def covers(self, case: Case, requirement: str) -> bool:
        return case.label() in self.cases and requirement in self.requirements


def policy(name: str) -> Policy:
    """The policy of conf/policy/NAME.yaml."""
    known = {path.stem: path for path in POLICIES.glob("*.yaml")}
    if name not in known:
        raise UnknownName("policy", name, known)
    return _read(Policy, known[name])


def waiver(path: Path) -> Waiver:
    return _read(Waiver, path)


def _read(kind: type[Noun], path: Path) -> Noun:
    try:
        content: Any = yaml.safe_load(path.read_text())
        return kind.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {kind.__name__.lower()} field `{field}`: {first['msg']}") from None
