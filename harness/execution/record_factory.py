"""What every record of a run carries, whichever engine makes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harness.records.case import Case, Skip
from harness.records.record import Environment, Record


@dataclass(frozen=True)
class RecordFactory:
    run: str
    plan: str
    """The plan's hash."""
    shard: str | None
    environment: Environment

    def record(self, case: Case, wall_s: float, started_at: str | None = None, **fields: Any) -> Record:
        return Record(
            run=self.run,
            plan=self.plan,
            shard=self.shard,
            case=case,
            key=case.key,
            started_at=started_at or now(),
            wall_s=wall_s,
            **({"environment": self.environment} | fields),
        )

    def lost(self, case: Case, reason: str) -> Record:
        return self.record(case, 0.0, status="lost", reason=reason)

    def skipped(self, skip: Skip) -> Record:
        return self.record(skip.case, 0.0, status="skipped", reason=skip.reason)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
