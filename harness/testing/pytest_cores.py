"""A pytest plugin: pytest-xdist's workers share the cores out, and so does all that they start."""

from __future__ import annotations

import os

import torch

from harness.machine import cores


def pytest_configure() -> None:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        os.environ.update(cores.share(workers))
        torch.set_num_threads(int(os.environ[cores.THREADS]))
