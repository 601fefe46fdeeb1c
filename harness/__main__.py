"""`python -m harness`: the command line on the real world. Heavy modules are imported when they are needed."""

from __future__ import annotations

import sys

from harness import cli, registry
from harness.session import ROOT, World


def world() -> World:
    from harness import compare, environment, hardware
    from harness.report import render

    return World(
        probe=hardware.probe,
        load=registry.load,
        weights_bytes=registry.weights_bytes,
        capture=lambda: environment.capture(ROOT, ["python", "-m", "harness", *sys.argv[1:]]),
        judge=compare.arms,
        report=render.write,
        worker_module="harness.worker",
    )


if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:], world))
