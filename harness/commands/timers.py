"""`python -m harness timers +model=NAME`: does our kernel timer read what other timers read?

Five kernels of the model's menu on this GPU, by our timer, by triton.testing.do_bench and, where its package is
installed, by NVBench. Exit code 0: every difference is within 2 % or explained by a bound measured here. 1: one is not.
2: a mistake in what was asked, or no GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from harness.commands.options import RECORDS, Asked, Option, Usage, one_of, seed
from harness.errors import UserError
from harness.machine.installation import CHECKOUT
from harness.timing.cross_check import CrossCheck, compare_timers

DTYPES = ("bfloat16", "float16", "float32")
USAGE = Usage(
    "timers",
    __doc__,
    (
        Option("model", "whose kernels"),
        Option("dtype", ", ".join(DTYPES), "bfloat16", one_of(*DTYPES)),
        Option("seed", "of the inputs", 0, seed),
        Option("out", "folder to write into", RECORDS / "cross_check", Path),
    ),
    words=range(1),
)
help_text = USAGE.help


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    asked = USAGE.read(arguments)
    if asked["model"] is None:
        raise UserError("timers: no model was named: add +model=NAME")
    made = _measure(asked, arguments)
    path = _write(made, asked["out"])
    tell(made, out)
    print(f"stored: {path}", file=out)
    return 0 if made.holds else 1


def _measure(asked: Asked, arguments: Sequence[str]) -> CrossCheck:
    import torch

    from harness.build import registry
    from harness.machine import environment

    spec = registry.load(asked["model"])
    if not torch.cuda.is_available():
        raise UserError("there is no GPU here: interpreted kernels have no speed to compare")
    kernels = {kernel.name: kernel for name in spec.menu.names() for kernel in spec.menu[name].kernels}
    dtype, device = getattr(torch, asked["dtype"]), torch.device("cuda", 0)
    bounds, agreements = compare_timers(kernels.values(), dtype, device, asked["seed"])
    return CrossCheck(
        environment=environment.capture(CHECKOUT, ["python", "-m", "harness", "timers", *arguments]),
        model=spec.name,
        dtype=asked["dtype"],
        seed=asked["seed"],
        bounds=bounds,
        agreements=agreements,
    )


def _write(made: CrossCheck, folder: Path) -> Path:
    """One file per run, never replaced."""
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{made.environment.commit[:8]}-{made.model}-{made.dtype}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(made.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path


def tell(made: CrossCheck, out: TextIO) -> None:
    """One line per kernel and timer, and whether all of them hold."""
    for row in made.agreements:
        print(f"{row.kernel}, {row.case}: {row.ours_ms:.4g} ms", file=out)
        for other in row.others:
            reason = row.reason(other, made.bounds) or "NOT EXPLAINED"
            apart = row.difference(other)
            read = "not read" if apart is None else f"{other.median_ms:.4g} ms, {apart:+.1%}"
            print(f"  {other.timer}: {read}: {reason}", file=out)
    print(
        "every timer agrees or differs for a known reason" if made.holds else "timers differ without a reason", file=out
    )
