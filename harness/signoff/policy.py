"""What a sign-off asks, and what may stand in for a part of it: small YAML files."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError

from harness.case import Case, Frozen
from harness.errors import ConfigError, UnknownName
from harness.record import Phase

POLICIES = Path(__file__).resolve().parents[2] / "conf" / "policy"
Waivable = Literal["processes", "peers", "prefill", "decode", "memory", "history", "caches"]
"""Requirements that a waiver may stand in for. What is right, and what was run, nobody can waive."""
Kind = TypeVar("Kind", bound=Frozen)


class Policy(Frozen):
    name: str
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


def _read(kind: type[Kind], path: Path) -> Kind:
    try:
        content: Any = yaml.safe_load(path.read_text())
        return kind.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {kind.__name__.lower()} field `{field}`: {first['msg']}") from None
