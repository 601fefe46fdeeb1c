"""A pytest plugin: `-p harness.testing.pytest_executed --executed FILE` lists the node id of every test that this
process ran.

Shards of the suite each write one; `python -m harness shards verify` proves from them that every test ran once. A
skipped test did run: it said why. The list appears when the session ends, whole or not at all.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--executed", type=Path, help="write the node ids of the tests that ran to this file")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--executed")
    if path is not None:
        config.pluginmanager.register(_Executed(path), "executed")


class _Executed:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.node_ids: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "setup":
            self.node_ids.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        partial = self.path.with_name(f"{self.path.name}.partial")
        partial.write_text("".join(f"{node_id}\n" for node_id in self.node_ids))
        os.replace(partial, self.path)
