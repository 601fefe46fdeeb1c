"""How the samples of a record came about, as far as that moves them."""

from __future__ import annotations

from harness.records.record import CANDIDATE, Record


def rewritten(record: Record) -> bool:
    """Whether the timed inputs were new before every sample; before version 7 they stayed the same."""
    return any(arm.name == CANDIDATE and arm.judged_blocks is not None for arm in record.arms)


def protocol(record: Record) -> str:
    """The name of the timing, and what its samples were fed: `signoff, same inputs`."""
    return f"{record.case.timing.name}, {'new' if rewritten(record) else 'same'} inputs"
