"""`python -m harness.records.schema`: the JSON Schema of a line of a run file, generated from the types that read
it."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from harness.records.case import Frozen, Plan
from harness.records.record import READABLE, SCHEMA_VERSION, Record
from harness.records.run_file import CLOSED_SINCE

TITLE = f"A line of an Inference-PIO run file, schema version {SCHEMA_VERSION}"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the canonical JSON of what follows.")]


class Header(Frozen):
    """The run, its whole plan, and what it is a part or a union of."""

    schema_version: int = Field(ge=min(READABLE), le=max(READABLE))
    run: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")
    plan: Plan
    shard: str | None = None
    sources: tuple[str, ...] = ()


class HeaderLine(Frozen):
    """The first line."""

    hash: Digest
    header: Header


class RecordLine(Frozen):
    """Every further line but the last."""

    hash: Digest
    record: Record


class End(Frozen):
    """How many records there are: a file that was cut lacks it."""

    schema_version: int = Field(ge=CLOSED_SINCE, le=max(READABLE))
    records: int = Field(ge=0)


class EndLine(Frozen):
    """The last line of a finished file, since schema version 4."""

    hash: Digest
    end: End


def document() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    lines = TypeAdapter(HeaderLine | RecordLine | EndLine).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": TITLE, **lines}


def text() -> str:
    return json.dumps(document(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
