"""`python -m harness replay FILE.json`: run a saved failure again, by the code as it is now.

Exit code 0: it passes now. 1: it still fails. 2: the file cannot be run here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from harness.commands.options import Usage
from harness.errors import UserError
from harness.records.checks import Divergence

USAGE = Usage("replay", __doc__, words=range(1, 2))
help_text = USAGE.help


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    return _replay(Path(USAGE.read(arguments).words[0]), out)


def _replay(file: Path, out: TextIO) -> int:
    import torch

    from harness.build import registry
    from harness.parity.diagnosis.reproducer import Reproducer

    saved = Reproducer.load(file)
    asked = saved.asked
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{file} failed on a GPU, and there is none here")
    if asked.kernels == "interpreted" and "TRITON_INTERPRET" not in os.environ:
        # Triton decides when it is imported whether it interprets.
        again = [sys.executable, "-m", "harness", "replay", str(file)]
        return subprocess.run(again, env={**os.environ, "TRITON_INTERPRET": "1"}, check=False).returncode
    print(f"saved:  {Divergence.of(asked.check).sentence()}", file=out)
    spec = registry.load(asked.model).made_with(asked.parameters)
    with torch.no_grad():
        failures = [check for check in saved.run(spec) if not check.passed]
    for check in failures:
        print(f"now:    {Divergence.of(check).sentence()}", file=out)
    print("still fails" if failures else "passes now", file=out)
    return 1 if failures else 0
