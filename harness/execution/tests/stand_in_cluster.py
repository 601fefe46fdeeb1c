"""`python stand_in_cluster.py OVERRIDES`: the stand-in command line, at the commit that its jobs see on the node."""

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

import stand_in_command  # noqa: E402

from harness.commands import run  # noqa: E402
from harness.commands.answers import answered  # noqa: E402
from harness.execution.session import Services  # noqa: E402
from harness.machine.environment import capture  # noqa: E402


def world() -> Services:
    return replace(stand_in_command.world(), capture=lambda: capture(ROOT, ()))


if __name__ == "__main__":
    sys.exit(answered(lambda: run.main(sys.argv[1:], services=world), sys.stderr))
