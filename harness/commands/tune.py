"""`python -m harness tune +model=NAME`: find the fastest launch shapes of a model's decode steps on this GPU.

Every candidate is checked against the kernel's twin, then timed with cold caches. What `out` holds afterwards is what
`launch_shapes.json` in the model's `kernels` directory is to hold; the times of all candidates stand in the record that
it names.

Exit code 0: both are written. 2: a mistake in what was asked, or no GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from harness.build.registry import names
from harness.commands.options import RECORDS, Asked, Option, Usage, one_of
from harness.errors import UnknownName, UserError
from harness.machine.installation import CHECKOUT

DTYPES = ("bfloat16", "float16", "float32")


def several(text: str) -> tuple[str, ...]:
    """Read names with commas between them."""
    return tuple(filter(None, text.split(",")))


USAGE = Usage(
    "tune",
    __doc__,
    (
        Option("model", "whose decode steps"),
        Option("kernels", "names with commas between them; all of them", (), several),
        Option("size", "the config whose sizes are measured", "full"),
        Option("dtype", ", ".join(DTYPES), "bfloat16", one_of(*DTYPES)),
        Option("out", "file for the shapes that were chosen", Path("launch_shapes.json"), Path),
        Option("records", "folder for the times of all candidates", RECORDS / "tune", Path),
    ),
    words=range(1),
)
help_text = USAGE.help


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    """Measure, and write two files."""
    asked = USAGE.read(arguments)
    if asked["model"] is None:
        raise UserError("tune: no model was named: add +model=NAME")
    if asked["model"] not in names():
        raise UnknownName("model", asked["model"], names())
    _tune(asked, arguments, out)
    return 0


def _tune(asked: Asked, arguments: Sequence[str], out: TextIO) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError("tune needs a GPU: the launches of an interpreted kernel have no speed to compare")
    from harness.machine import environment
    from harness.tune.choice import launch_file, record_file, told
    from harness.tune.sweep import Wanted, sweep

    model = asked["model"]
    wanted = Wanted(model, asked["size"], asked["dtype"], asked["kernels"])
    tunings = wanted.tunings()
    record = asked["records"] / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{model}.json"
    machine = environment.capture(CHECKOUT, ["python", "-m", "harness", "tune", *arguments])
    classes = []
    for tuning, rows in zip(tunings, sweep(wanted), strict=True):
        print(f"{tuning.label()}: {told(rows)}", file=out, flush=True)
        classes.append(rows)
        _write(record, record_file(classes, machine, model))
        _write(asked["out"], launch_file(classes, machine, str(record)))
    print(f"stored: {asked['out']}, chosen by {record}", file=out)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
