"""One line of a run file: a header, a record or the end, with the hash of its content."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Literal

from harness.errors import RecordError
from harness.records.record import READABLE

Kind = Literal["header", "record", "end"]
BEFORE_HASH = '{"hash":"'
AFTER_HASH = len(BEFORE_HASH) + 2 * hashlib.sha256().digest_size


def written(kind: Kind, content: dict[str, Any]) -> str:
    """The canonical JSON of the hash and the content that has it, with its end of line."""
    text = _canonical(content)
    return f'{BEFORE_HASH}{_hash(text)}","{kind}":{text}}}\n'


def digest(content: dict[str, Any]) -> str:
    """The hash that a line with this content states."""
    return _hash(_canonical(content))


def is_end(line: str) -> bool:
    return line.startswith('","end":', AFTER_HASH)


def as_written(line: str, kind: Kind) -> tuple[str, str] | None:
    """The hash that a line states and the JSON of what it holds, where the very characters have that hash, as they have
    when nobody wrote the line anew. Several times cheaper than `content`, which says what is wrong with any other."""
    stated, between, text = line[len(BEFORE_HASH) :].partition(f'","{kind}":')
    if not line.startswith(BEFORE_HASH) or not between or not text.endswith("}"):
        return None
    return (stated, text[:-1]) if _hash(text[:-1]) == stated else None


def content(line: str, kind: str, where: str) -> tuple[str, dict[str, Any]]:
    """The hash of a line and what it holds, the one proven by the other."""
    try:
        envelope = json.loads(line, parse_constant=_not_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: truncated or not JSON ({error})") from None
    if not isinstance(envelope, dict) or set(envelope) != {"hash", kind} or not isinstance(envelope[kind], dict):
        raise RecordError(f"{where}: not a {kind} line")
    held: dict[str, Any] = envelope[kind]
    if held.get("schema_version") not in READABLE:
        known = ", ".join(map(str, READABLE))
        raise RecordError(
            f"{where}: schema version {held.get('schema_version')!r}, this build reads {known}: "
            "guessing would misread it"
        )
    stated: str = envelope["hash"]
    if stated != digest(held):
        raise RecordError(f"{where}: edited, its content does not have the hash it was written with")
    return stated, held


def _not_finite(constant: str) -> float:
    raise ValueError(f"{constant} is not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
