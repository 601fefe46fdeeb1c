"""`python -m harness calibrate +model=NAME`: do right answers stay clear of the gate's limits on this machine?

The plain model is judged against itself with another attention backend, over seeds; with kernels=true so is every
kernel against its twin, on shapes and values that each seed draws. Exit code 0: for every rule 99.9 % of right answers
leave it the room that it needs: 0.7 of the limit, or less room for the two rules that have a criterion of their own in
the half types (harness.records.calibration.NEAR_ONE says why); no kernel is refused in the half types, and at most one
check in a thousand in float32. 1: some rule is nearer than that. 2: a mistake in what was asked."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from harness.commands.options import RECORDS, Asked, Option, Usage, flag, one_of, whole
from harness.errors import UserError
from harness.machine.installation import CHECKOUT
from harness.records.calibration import Calibration

if TYPE_CHECKING:
    from harness.parity.calibration_runs import Share
    from harness.planning.settings import Kind
    from harness.spec.model import ModelSpec


KNOWN = ("float32", "bfloat16", "float16")
USAGE = Usage(
    "calibrate",
    __doc__,
    (
        Option("model", "which one"),
        Option("size", "of the model", "tiny"),
        Option("seeds", "how many draws", 30, whole),
        Option("batch", "sequences", 2, whole),
        Option("tokens", "of each", 32, whole),
        Option("hardware", "cpu or cuda; by default a GPU where there is one", None, one_of("cpu", "cuda")),
        Option("dtypes", "with commas between", ",".join(KNOWN)),
        Option("kernels", "judge the kernels too; interpreted without a GPU", False, flag),
        Option("workers", "at most so many processes judge kernels, one a core", 24, whole),
        Option("out", "folder to write into", RECORDS / "calibration", Path),
    ),
    words=range(1),
)
help_text = USAGE.help


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    asked = USAGE.read(arguments)
    if asked["model"] is None:
        raise UserError("calibrate: no model was named: add +model=NAME")
    made = _calibrate(asked, arguments)
    path = _write(made, asked["out"])
    _print(made, path, out)
    return 0 if made.holds else 1


def _calibrate(asked: Asked, arguments: Sequence[str]) -> Calibration:
    kind = _kind(asked)
    if kind == "cpu" and asked["kernels"]:
        # Triton reads it when it is imported, which the specs of the models do.
        os.environ["TRITON_INTERPRET"] = "1"
    import torch

    from harness.build import registry
    from harness.machine import environment
    from harness.parity.calibration_runs import judged, kernel_alarms, quantiles, right_answers
    from harness.parity.reference.attention_backends import exact_convolutions
    from harness.parity.worker_pool import side_by_side

    dtypes = asked["dtypes"].split(",")
    if any(name not in KNOWN for name in dtypes):
        raise UserError(f"calibrate: dtypes must be among {', '.join(KNOWN)}")
    exact_convolutions()
    spec = registry.load(asked["model"])
    seeds = tuple(range(asked["seeds"]))
    checks = {
        name: [
            check
            for seed in seeds
            for check in right_answers(
                spec, asked["size"], seed, getattr(torch, name), torch.device(kind), asked["batch"], asked["tokens"]
            )
        ]
        for name in dtypes
    }
    shares = _shares(spec, kind, dtypes, seeds) if asked["kernels"] else []
    found = dict(side_by_side(judged, shares, asked["workers"]))
    command = ["python", "-m", "harness", "calibrate", *arguments]
    return Calibration(
        environment=environment.capture(CHECKOUT, command),
        model=spec.name,
        size=asked["size"],
        device=kind,
        seeds=seeds,
        rules=quantiles(checks),
        kernels=tuple(kernel_alarms((share, found[share]) for share in shares)),
    )


def _kind(asked: Asked) -> Kind:
    from harness.machine import hardware

    here = hardware.probe().kind
    if asked["hardware"] == "cuda" and here == "cpu":
        raise UserError("hardware=cuda: there is no GPU here")
    chosen: Kind = asked["hardware"] or here
    return chosen


def _shares(spec: ModelSpec, kind: Kind, dtypes: Sequence[str], seeds: Sequence[int]) -> list[Share]:
    """Every kernel of the menu that can run here, once a type that it computes and a seed."""
    import torch

    from harness.machine import hardware
    from harness.parity.calibration_runs import Share
    from harness.parity.kernels.kernel_checks import kernels_of
    from harness.planning.hardware_target import LocalMachine

    here = LocalMachine(
        hardware.probe(), {}, cxx=shutil.which("g++") is not None, nvcc=shutil.which("nvcc") is not None
    )
    offered = here.capabilities(kind, 2) | {"ranks"}
    kernels = kernels_of(spec, [item.name for item in spec.menu.items if offered >= set(item.needs)])
    # The interpreter computes bfloat16 wrongly.
    types = [name for name in dtypes if kind == "cuda" or name != "bfloat16"]
    each = ((kernel, dtype) for kernel in kernels for dtype in types if kernel.computes(getattr(torch, dtype)))
    return [Share(spec.name, kernel.name, dtype, kind, seed) for kernel, dtype in each for seed in seeds]


def _write(made: Calibration, folder: Path) -> Path:
    """One file per run, never replaced."""
    commit = made.environment.commit[:8]
    path = folder / f"{made.device}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{commit}-{made.model}-{made.size}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(made.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path


def _print(made: Calibration, path: Path, out: TextIO) -> None:
    from rich import box
    from rich.table import Table

    from harness.report.console import terminal

    shown = ("median", "99 %", "99.9 %", "most", "room")
    heads = ("level", "rule", "dtype", "right answers", *shown, "false alarms", "holds")
    table = Table(*heads, box=box.ROUNDED if out.isatty() else box.ASCII2, header_style="bold")
    for rule in made.rules:
        shares = [f"{value:.2f}" for value in (rule.median, rule.q99, rule.q999, rule.most, rule.room)]
        held = "yes" if rule.holds else "NO"
        table.add_row(rule.level, rule.rule, rule.dtype, str(rule.n), *shares, str(rule.false_alarms), held)
    terminal(out).print(table)
    for dtype in dict.fromkeys(rule.dtype for rule in made.rules):
        mine = [rule for rule in made.rules if rule.dtype == dtype]
        alarms, total = sum(rule.false_alarms for rule in mine), sum(rule.n for rule in mine)
        print(f"{dtype}: false-alarm rate {alarms / total:.3%} ({alarms} of {total} right answers refused)", file=out)
    for one in made.kernels:
        print(f"{one.kernel} {one.dtype}: {one.refused} of {one.n} checks refused", file=out)
        print(*(f"  {where}\n" for where in one.where), sep="", end="", file=out)
    for dtype in dict.fromkeys(one.dtype for one in made.kernels):
        print(f"{dtype}: kernels refused in {made.kernel_alarms(dtype):.4%} of their checks", file=out)
    state = "every limit holds" if made.holds else "a limit is too near"
    print(f"{state}: 99.9 % of right answers must stay below the room of their rule\nstored: {path}", file=out)
