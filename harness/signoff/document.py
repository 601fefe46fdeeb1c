"""The decision as files: JSON that can be judged again, Markdown and HTML that render it."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader
from pydantic import ValidationError

from harness.errors import RecordError, UserError
from harness.records.case import Case, Frozen
from harness.report.cells import Banner
from harness.report.render import TEMPLATES, environment_for_markdown
from harness.signoff.decision import Decision
from harness.signoff.policy import Policy, Waiver

SCHEMA_VERSION = 2
FOLDER = Path(__file__).with_name("templates")
JSON = "signoff.json"


class Question(Frozen):
    """What was to be decided, by which rules, when."""

    case: Case
    policy: Policy
    waivers: tuple[Waiver, ...]
    decided_at: datetime


def pages(decision: Decision) -> dict[str, str]:
    """File name -> text. The JSON leaves out the evidence itself, which the records hold; the others name its hash."""
    said = decision.model_dump(mode="json", exclude={"proof"})
    said |= {"schema_version": SCHEMA_VERSION, "signed": decision.signed}
    text = canonical(said)
    environment = _environment()
    seen = {"decision": decision, "banner": _banner(decision), "digest": hashlib.sha256(text.encode()).hexdigest()}
    return {
        JSON: text,
        "signoff.md": environment.get_template("signoff.md.j2").render(seen),
        "index.html": environment.get_template("signoff.html.j2").render(seen),
    }


def canonical(said: Any) -> str:
    """The one way in which a document's JSON is written."""
    return json.dumps(said, indent=1, sort_keys=True, allow_nan=False) + "\n"


def write(decision: Decision, folder: Path) -> list[Path]:
    """UserError where the folder cannot be written or lies behind a symlink."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages(decision).items():
            target = folder / name
            if any(part.is_symlink() for part in (folder, target)):
                raise UserError(f"{target} lies behind a symlink: the document would be written somewhere else")
            target.write_text(text, encoding="utf-8")
            written.append(target)
    except OSError as error:
        raise UserError(f"cannot write the document to {folder}: {error.strerror}") from None
    return written


def question(path: Path) -> Question:
    """What the document at `path` says it decided. RecordError where it is none that this build can judge."""
    try:
        content: Any = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RecordError(f"{path} is no sign-off: {error}") from None
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise RecordError(f"{path} is no sign-off of version {SCHEMA_VERSION}")
    try:
        return Question.model_validate({name: content.get(name) for name in Question.model_fields})
    except ValidationError as error:
        raise RecordError(f"{path}: not what a sign-off says: {error}") from None


def _banner(decision: Decision) -> Banner:
    total, refused = len(decision.findings), decision.refusals()
    if decision.signed:
        waived = sum(bool(finding.waived) for finding in decision.findings)
        rest = f", {waived} of them by a waiver" if waived else ""
        return Banner("good", "SIGNED", f"all {total} requirements stand{rest}")
    remarks = tuple(f"{finding.requirement}: {finding.found}" for finding in refused)
    return Banner("bad", "REFUSED", f"{len(refused)} of {total} requirements do not stand", remarks)


def _environment() -> Environment:
    environment = environment_for_markdown()
    environment.loader = ChoiceLoader([FileSystemLoader(FOLDER), FileSystemLoader(TEMPLATES)])
    return environment
