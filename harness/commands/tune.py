"""`python -m harness tune +model=X [kernels=NAME,...] [size=full] [dtype=bfloat16] [out=FILE]`: find the fastest launch
shapes of a model's decode steps on this GPU.

Every candidate is checked against the kernel's twin, then timed with cold caches. `out`, by default
`launch_shapes.json` in the working folder, is what `models/X/kernels/launch_shapes.json` is to hold; the times of all
candidates stand in a record in `benchmark_results/tune/`. Exit code 2: a mistake in what was asked, or no GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from harness.build.registry import names
from harness.errors import UnknownName, UserError
from harness.machine.installation import CHECKOUT

OPTIONS = {"model": "", "kernels": "", "size": "full", "dtype": "bfloat16", "out": "launch_shapes.json"}
DTYPES = ("bfloat16", "float16", "float32")
RECORDS = Path("benchmark_results/tune")


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    """Measure, and write two files."""
    if {"-h", "--help"} & {*arguments}:
        print(__doc__, file=out)
        return 0
    try:
        _tune(options(arguments), arguments, out)
    except UserError as error:
        print(f"error: {error}", file=err)
        return 2
    return 0


def options(arguments: Sequence[str]) -> dict[str, str]:
    """Read `name=value` words. Raises UserError for a word that is none, UnknownName for a name or a value that is not
    there."""
    given = dict(OPTIONS)
    for argument in arguments:
        name, equals, value = argument.removeprefix("+").partition("=")
        if not equals:
            raise UserError(f"'{argument}' is no option: write NAME=VALUE, of {', '.join(OPTIONS)}")
        if name not in OPTIONS:
            raise UnknownName("option", name, OPTIONS)
        given[name] = value
    if not given["model"]:
        raise UserError("which model? Say +model=NAME")
    if given["model"] not in names():
        raise UnknownName("model", given["model"], names())
    if given["dtype"] not in DTYPES:
        raise UnknownName("dtype", given["dtype"], DTYPES)
    return given


def _tune(given: dict[str, str], arguments: Sequence[str], out: TextIO) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError("tune needs a GPU: the launches of an interpreted kernel have no speed to compare")
    from harness.machine import environment
    from harness.tune.choice import launch_file, record_file, told
    from harness.tune.sweep import Wanted, sweep

    kernels = tuple(filter(None, given["kernels"].split(",")))
    wanted = Wanted(given["model"], given["size"], given["dtype"], kernels)
    tunings = wanted.tunings()
    target, record = Path(given["out"]), RECORDS / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{given['model']}.json"
    machine = environment.capture(CHECKOUT, ["python", "-m", "harness", "tune", *arguments])
    classes = []
    for tuning, rows in zip(tunings, sweep(wanted), strict=True):
        print(f"{tuning.label()}: {told(rows)}", file=out, flush=True)
        classes.append(rows)
        _write(record, record_file(classes, machine, given["model"]))
        _write(target, launch_file(classes, machine, str(record)))
    print(f"stored: {target}, chosen by {record}", file=out)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
