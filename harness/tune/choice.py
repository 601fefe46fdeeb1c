"""Choose the fastest launch of a class of sizes, and write what was chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.records.record import Environment
from harness.spec.tuning import Launch


@dataclass(frozen=True)
class Row:
    """One launch that was tried."""

    kernel: str
    sizes: Mapping[str, int | tuple[int, int]]
    launch: Launch | None
    """None is the kernel's default."""
    median_us: float | None = None
    """Device time with cold caches; None where it failed."""
    error: str | None = None


def fastest(rows: Sequence[Row], count: int = 1) -> list[Row]:
    """Return the `count` fastest of those that ran, the fastest first."""
    ran = [row for row in rows if row.median_us is not None]
    return sorted(ran, key=lambda row: row.median_us or 0.0)[:count]


def chosen(classes: Sequence[Sequence[Row]]) -> dict[str, list[dict[str, Any]]]:
    """Return kernel -> what `launch_shapes.json` holds of the classes of sizes where a launch beats the default."""
    kernels: dict[str, list[dict[str, Any]]] = {}
    for rows in classes:
        for best in fastest(rows):
            if best.launch is not None:
                kernels.setdefault(best.kernel, []).append({"sizes": dict(best.sizes), "launch": dict(best.launch)})
    return kernels


def launch_file(classes: Sequence[Sequence[Row]], environment: Environment, record: str) -> str:
    """Return the text of a model's `launch_shapes.json`: what was chosen, on which device, by which record."""
    held = {
        "tuned_on": _fingerprint(environment),
        "record": record,
        "carried_from": None,
        "kernels": chosen(classes),
    }
    return json.dumps(held, indent=1) + "\n"


def record_file(classes: Sequence[Sequence[Row]], environment: Environment, model: str) -> str:
    """Return the text of the record: every launch that was tried."""
    rows = [asdict(row) for each in classes for row in each]
    held = {"model": model, "environment": environment.model_dump(mode="json"), "rows": rows}
    return json.dumps(held, indent=1) + "\n"


def told(rows: Sequence[Row]) -> str:
    """Return one line: the fastest launch and its time, the default's, and what failed."""
    failed = [row.error for row in rows if row.error is not None]
    tail = f"; {len(failed)} failed, first: {failed[0][:90]}" if failed else ""
    ran = fastest(rows)
    if not ran:
        return f"nothing ran{tail}"
    default = next((row.median_us for row in rows if row.launch is None), None)
    beside = "" if default is None else f", the default {default:.2f} us"
    launch = "the default" if ran[0].launch is None else " ".join(f"{k}={v}" for k, v in ran[0].launch.items() if v)
    return f"{ran[0].median_us:.2f} us{beside}: {launch}{tail}"


def _fingerprint(environment: Environment) -> dict[str, str | None]:
    versions = environment.packages
    return {
        "device": environment.gpu,
        "torch": versions.get("torch"),
        "triton": versions.get("triton"),
        "commit": environment.commit + ("-dirty" if environment.dirty else ""),
    }
