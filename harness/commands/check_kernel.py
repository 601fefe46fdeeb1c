"""`python -m harness check-kernel FILE`: is this kernel right, and would its cases show it if it were not?"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from harness.commands.options import Asked, Option, Usage, flag, one_of, seed
from harness.errors import UserError

if TYPE_CHECKING:
    import torch

    from harness.records.kill_matrix import MutantOutcome
    from harness.spec.kernel import Kernel

USAGE = Usage(
    "check-kernel",
    """python -m harness check-kernel FILE [hardware=cpu|cuda] [faults=false]

Judge every `Kernel` that a Python file holds against its eager twin, on its own cases and the fixed ones: values,
memory, repeated calls. Then plant the faults that every kernel can have, and tell which of them its cases do not show.
Without a GPU Triton interprets, in float32 and float16; with one bfloat16 is judged, too.

Exit code 0: right, and every fault was seen. 1: refused, with the case, the rule and the place, or a fault was not
seen. 2: a mistake in what was asked.""",
    (
        Option("hardware", "cpu or cuda; by default a GPU where there is one", None, one_of("cpu", "cuda")),
        Option("faults", "plant faults in what is right", True, flag),
        Option("seed", "of the inputs", 0, seed),
    ),
    words=range(1, 2),
)
help_text = USAGE.help
SHOWN = 12
"""Broken checks, or faults that were not seen, that are told one by one."""


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    asked = USAGE.read(arguments)
    path = Path(asked.words[0])
    if not path.is_file():
        raise UserError(f"check-kernel: no file {path}")
    device = _device(asked)
    kernels = _kernels(path)
    return max(_judge(kernel, device, asked, out) for kernel in kernels)


def _device(asked: Asked) -> torch.device:
    from harness.machine.hardware import probe

    here = probe().kind
    if asked["hardware"] == "cuda" and here == "cpu":
        raise UserError("hardware=cuda: there is no GPU here")
    kind = asked["hardware"] or here
    if kind == "cpu":
        # Triton reads it when it is imported, which the file does.
        os.environ["TRITON_INTERPRET"] = "1"
    import torch

    return torch.device(kind)


def _kernels(path: Path) -> list[Kernel]:
    """The kernels that the file holds, each once; what it raises is the user's to read."""
    from harness.spec.kernel import Kernel

    place = spec_from_file_location(path.stem, path)
    if place is None or place.loader is None:
        raise UserError(f"check-kernel: {path} is no Python file")
    module = module_from_spec(place)
    sys.modules[path.stem] = module
    try:
        place.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise UserError(f"check-kernel: {path} cannot be imported: {error}") from error
    found = {id(value): value for value in vars(module).values() if isinstance(value, Kernel)}
    if not found:
        raise UserError(f"check-kernel: {path} holds no Kernel: KERNEL = Kernel(name, launch, eager, cases, cost, ...)")
    return list(found.values())


def _judge(kernel: Kernel, device: torch.device, asked: Asked, out: TextIO) -> int:
    """0 where it is right and its cases show every fault, else 1."""
    import torch

    from harness.parity.kernels.input_kinds import check_input_kinds
    from harness.parity.kernels.kernel_checks import check_kernel
    from harness.records.checks import Divergence

    types = [torch.float32, torch.float16, *([torch.bfloat16] if device.type == "cuda" else [])]
    types = [dtype for dtype in types if kernel.computes(dtype)]
    kinds = check_input_kinds(kernel, types[0], device, asked["seed"])
    if not kinds.passed:
        print(f"{kernel.name}: a model's kernel would be refused for its cases: {kinds.where}", file=out)
    checks = [check for dtype in types for check in check_kernel(kernel, dtype, device, asked["seed"])]
    broken = [check for check in checks if not check.passed]
    for check in broken[:SHOWN]:
        print(f"{kernel.name}: refused: {Divergence.of(check).sentence()}", file=out)
    told = f"{kernel.name}: {len(checks)} checks in {', '.join(str(dtype).removeprefix('torch.') for dtype in types)}"
    if broken:
        print(f"{told}, {len(broken)} broken", file=out)
        return 1
    print(f"{told}, all pass", file=out)
    return _faults(kernel, tuple(types), device, asked["seed"], out) if asked["faults"] else 0


def _faults(kernel: Kernel, types: tuple[torch.dtype, ...], device: torch.device, seed: int, out: TextIO) -> int:
    from harness.faults.kernel_faults import judge_kernel

    outcomes: list[MutantOutcome] = list(judge_kernel(kernel, types, device, seed))
    real = [outcome for outcome in outcomes if outcome.end in ("killed", "crash", "survived")]
    unseen = [outcome for outcome in real if outcome.end == "survived"]
    for outcome in unseen[:SHOWN]:
        print(f"{kernel.name}: not seen: {outcome.name} ({outcome.kind}): no case of this kernel shows it", file=out)
    print(f"{kernel.name}: {len(real) - len(unseen)} of {len(real)} planted faults seen", file=out)
    return 1 if unseen else 0
