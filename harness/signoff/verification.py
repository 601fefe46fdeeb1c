"""Hold a document against the decision that its records give. The JSON is the document; the pages only render it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.signoff import document
from harness.signoff.decision import Decision

ADVICE = "supply"
"""Of a finding: the command that this build would give. It says what to do next and is no part of the decision."""
ABSENT = object()


@dataclass(frozen=True)
class Verification:
    """Whole sentences: why a document does not hold, and what a reader of one that holds should know."""

    refusals: tuple[str, ...]
    notes: tuple[str, ...]


def verify(decision: Decision, path: Path) -> Verification:
    """Compare the document at `path` with `decision`, and the pages beside it with the document.

    Every value of the JSON counts but the commands that findings advise. A page counts by the hash of the JSON that it
    carries: its words and its layout are those of the build that wrote it. RecordError where the JSON cannot be read.
    """
    try:
        text = path.read_bytes()
        said = json.loads(text)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} is no sign-off: {error}") from None
    rendered = document.pages(decision)
    given = json.loads(rendered.pop(document.JSON))
    pages = {path.with_name(name): page for name, page in rendered.items() if path.with_name(name).exists()}
    refusals = tuple(_refusals(path, text, said, given, list(pages)))
    return Verification(refusals, () if refusals else tuple(_notes(path, said, given, pages)))


def _refusals(path: Path, text: bytes, said: Any, given: Any, pages: list[Path]) -> Iterator[str]:
    wrong = list(_differences(said, given))
    if wrong:
        yield f"{path} is not what its policy and the records give: {', '.join(wrong)}"
    elif document.canonical(said).encode() != text:
        yield f"{path} is not written as a sign-off is: a name may stand in it twice"
    digest = hashlib.sha256(text).hexdigest()
    for page in pages:
        if digest not in page.read_text(errors="replace"):
            yield f"{page} renders another document: it does not carry the SHA-256 of {path.name}"


def _notes(path: Path, said: Any, given: Any, pages: dict[Path, str]) -> Iterator[str]:
    if document.canonical(said) != document.canonical(given):
        yield f"{path} advises commands that this build words otherwise"
        return
    for page, rendered in pages.items():
        if page.read_text(errors="replace") != rendered:
            yield f"{page} is not as this build would render {path.name}, which alone was verified"


def _differences(said: Any, given: Any, at: str = "") -> Iterator[str]:
    """Where two JSON values differ, as dotted names; a finding goes by its requirement."""
    if isinstance(said, dict) and isinstance(given, dict):
        advice = {ADVICE} if "requirement" in given else set()
        for name in sorted({*said, *given} - advice):
            yield from _differences(said.get(name, ABSENT), given.get(name, ABSENT), f"{at}.{name}" if at else name)
    elif isinstance(said, list) and isinstance(given, list) and len(said) == len(given):
        for index, (one, other) in enumerate(zip(said, given, strict=True)):
            name = other.get("requirement", index) if isinstance(other, dict) else index
            yield from _differences(one, other, f"{at}.{name}")
    elif type(said) is not type(given) or said != given:
        yield at or "the whole"
