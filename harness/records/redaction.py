"""Secrets kept out of what is recorded: the text of an error or a command may quote the environment that it ran in."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.records.record import Record

NAMES = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH", re.IGNORECASE)
"""Of environment variables whose values are secrets."""
SHORTEST = 6
"""Characters of a secret; a shorter value is found in honest text."""
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def hide(text: str, environment: Mapping[str, str]) -> str:
    """The text with each secret of `environment` replaced by its variable's name, and credentials in addresses by
    dots."""
    secrets = {value: name for name, value in environment.items() if NAMES.search(name) and len(value) >= SHORTEST}
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, f"<{secrets[value]}>")
    return _IN_ADDRESS.sub("...", text)


def withheld(record: Record, environment: Mapping[str, str]) -> Record:
    """The record with `hide` applied to every text that code outside the harness may have written."""

    def hidden(text: str) -> str:
        return hide(text, environment)

    changes: dict[str, object] = {
        "timing_notes": tuple(map(hidden, record.timing_notes)),
        "receipts": tuple(
            note.model_copy(update={"notes": tuple(map(hidden, note.notes))}) for note in record.receipts
        ),
    }
    if record.reason:
        changes["reason"] = hidden(record.reason)
    if record.error:
        said = {"message": hidden(record.error.message), "traceback": hidden(record.error.traceback)}
        changes["error"] = record.error.model_copy(update=said)
    if record.parity:
        not_judged = (item.model_copy(update={"reason": hidden(item.reason)}) for item in record.parity.not_judged)
        changes["parity"] = record.parity.model_copy(update={"not_judged": tuple(not_judged)})
    return record.model_copy(update=changes)
