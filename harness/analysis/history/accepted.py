"""Steps that somebody took responsibility for: one file each, never edited, valid until it expires.

An acceptance makes the level from its first point on the one that later nights are held to. When it has expired, the
level before it counts again. Baselines themselves are never edited.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from harness.errors import RecordError, UserError
from harness.records.case import Frozen
from harness.records.record import Phase

FOLDER = "accepted"
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3)]


class Accepted(Frozen):
    schema_version: Literal[1] = 1
    key: str = Field(pattern=r"^[0-9a-f]{16}$")
    """Of the case's identity; of the exact question in acceptances from before there was one."""
    phase: Phase
    fingerprint: str
    since: str
    """Start of the first record of the new level."""
    commit: str
    """Of that record."""
    owner: Text
    reason: Text
    made: date
    expires: date


def write(accepted: Accepted, results: Path) -> Path:
    """A new file under `results/accepted`; UserError when the expiry is past or the step was accepted already."""
    if accepted.expires <= accepted.made:
        raise UserError(f"an acceptance that expires on {accepted.expires} would accept nothing")
    content = accepted.model_dump(mode="json")
    line = json.dumps({"hash": _digest(content), "accepted": content}, sort_keys=True)
    name = f"{accepted.made}-{accepted.key}-{accepted.phase}-{accepted.digest()[:6]}.json"
    path = results / FOLDER / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(line + "\n")
    except FileExistsError:
        raise UserError(f"{path} exists: this step was accepted already") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path


def read(results: Path) -> tuple[Accepted, ...]:
    """All that were ever made, the oldest first; RecordError names a file that was edited or is none."""
    return tuple(_read(path) for path in sorted((results / FOLDER).glob("*.json")))


def since(
    every: Sequence[Accepted], today: date, identities: Mapping[str, str] = MappingProxyType({})
) -> Mapping[tuple[str, Phase, str], str]:
    """(key, phase, fingerprint) -> start of the last level whose acceptance holds today. `identities` maps keys of
    exact questions to those of their cases."""
    held: dict[tuple[str, Phase, str], str] = {}
    for item in every:
        if item.made <= today < item.expires:
            name = (identities.get(item.key, item.key), item.phase, item.fingerprint)
            held[name] = max(held.get(name, ""), item.since)
    return held


def _read(path: Path) -> Accepted:
    if path.is_symlink():
        raise RecordError(f"{path} is a symlink: what it points to may change between readings")
    try:
        envelope = json.loads(path.read_text())
        accepted = Accepted.model_validate(envelope["accepted"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise RecordError(f"{path.name} is no acceptance: {error}") from None
    if envelope.get("hash") != _digest(envelope["accepted"]):
        raise RecordError(f"{path.name}: edited, its content does not have the hash it was written with")
    return accepted


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
