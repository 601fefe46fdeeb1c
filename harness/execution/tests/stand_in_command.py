"""`python stand_in_command.py OVERRIDES`: the command line with a model that is only a menu and a stand-in worker."""

import sys
from pathlib import Path

from harness.commands import run
from harness.commands.answers import answered
from harness.conftest import GIB, FakeMachine, FakeModel, optimization
from harness.execution.session import Services
from harness.records.record import Environment
from harness.spec.optimization import Menu

MENU = Menu((optimization("rotary"), optimization("attention")), full=("rotary", "attention"))
MODEL = FakeModel({"tiny": {}, "slice": {}, "full": {}}, MENU)
HERE = Environment(
    commit="0123456789abcdef",
    dirty=False,
    diff_hash=None,
    command=(),
    python="3.11",
    platform="Linux",
    packages={},
    cpu="a CPU",
    cpu_cores=2,
    memory_bytes=16 * GIB,
)


def world() -> Services:
    return Services(
        probe=FakeMachine,
        load=lambda name: MODEL,
        weights_bytes=lambda model, size, dtype, weights: GIB,
        indivisible=lambda shares: None,
        check_weights=lambda model, directory: None,
        capture=lambda: HERE,
        judge=lambda record: (),
        report=lambda records, plan, run, out, formats: [Path(run)],
        worker_module="stand_in_worker",
    )


if __name__ == "__main__":
    sys.exit(answered(lambda: run.main(sys.argv[1:], services=world), sys.stderr))
