"""`python -m harness.replay FILE.json`: run a saved failure again, by the code as it is now.

Exit code 0: it passes now. 1: it still fails. 2: the file cannot be run here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from harness.checks import Divergence
from harness.errors import UserError


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.replay", description=__doc__)
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    try:
        return _replay(options.file)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _replay(file: Path) -> int:
    import torch

    from harness import registry
    from harness.parity.reproducer import Reproducer

    saved = Reproducer.load(file)
    asked = saved.asked
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{file} failed on a GPU, and there is none here")
    if asked.kernels == "interpreted" and "TRITON_INTERPRET" not in os.environ:
        # Triton decides when it is imported whether it interprets.
        again = [sys.executable, "-m", "harness.replay", str(file)]
        return subprocess.run(again, env={**os.environ, "TRITON_INTERPRET": "1"}, check=False).returncode
    print(f"saved:  {Divergence.of(asked.check).sentence()}")
    spec = registry.load(asked.model).made_with(asked.parameters)
    with torch.no_grad():
        failures = [check for check in saved.run(spec) if not check.passed]
    for check in failures:
        print(f"now:    {Divergence.of(check).sentence()}")
    print("still fails" if failures else "passes now")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
