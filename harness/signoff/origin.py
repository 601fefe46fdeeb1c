"""Whether a record can be run again: the commit, the versions, the caches that it started from."""

from __future__ import annotations

from harness.records.record import Record
from harness.signoff.finding import Finding
from harness.signoff.policy import Policy


def source(record: Record, held: bool | None, measure: str) -> Finding:
    environment = record.environment
    if environment is None or environment.commit == "unknown":
        found = "the record does not say what was run"
    else:
        state = "with changes that are in no commit: it cannot be run again" if record.provisional else "clean"
        found = f"commit {environment.commit[:12]}, {state}"
        found += ", which no branch or tag of this repository has" if held is False else ""
    met = not record.provisional and environment is not None and environment.commit != "unknown" and held is not False
    return Finding(requirement="source", met=met, found=found, supply=measure)


def versions(record: Record, policy: Policy, measure: str) -> Finding:
    packages = record.environment.packages if record.environment else {}
    lacking = [name for name in policy.versions if name not in packages]
    named = ", ".join(f"{name} {packages[name]}" for name in policy.versions if name in packages)
    lock = record.provenance.lock if record.provenance else ""
    found = f"no version of {', '.join(lacking)}" if lacking else named
    found += f"; constraints.txt {lock}" if lock else "; which constraints.txt is not on record"
    return Finding(requirement="versions", met=bool(lock) and not lacking, found=found, supply=measure)


def caches(record: Record, policy: Policy, measure: str) -> Finding:
    """Of the proof, which may be another run's, and of the timing."""
    proven = record.provenance is not None and record.provenance.fresh_caches
    fresh = proven and record.case.timing.fresh_caches
    found = "kernels were compiled anew" if fresh else "kernels may be from a cache that another build filled"
    return Finding(requirement="caches", met=fresh or not policy.fresh_caches, found=found, supply=measure)
