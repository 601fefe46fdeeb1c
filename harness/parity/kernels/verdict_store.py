"""Op-level checks that passed, kept by the hash of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch
from pydantic import ValidationError

from harness.build.dtypes import dtype_name
from harness.build.process_state import process_state
from harness.build.provenance import gate_sources, kernel_sources
from harness.machine.hardware import probe
from harness.parity.kernels.kernel_checks import judged_dtypes, kernels_of
from harness.records.case import Case, Frozen
from harness.records.checks import Check
from harness.records.standing_verdict import StandingVerdict
from harness.spec.model import ModelSpec

KEPT = 1000
"""Verdicts in the folder at most; the ones that were not used for the longest time go first."""
OF_THIS_RUN = ("$CUDA_VISIBLE_DEVICES",)
"""Settings that name a device and change nothing that it computes."""


class Verdict(Frozen):
    standing: StandingVerdict
    checks: tuple[Check, ...]


class VerdictStore:
    """The verdicts that may stand for those of one case, a file for each kernel and dtype.

    Only what passed is kept: what is wrong is judged anew each time. A folder that others can write, or a file that
    cannot be read, holds nothing.
    """

    def __init__(self, folder: Path, run: str, case: Case, spec: ModelSpec, device: torch.device) -> None:
        self._folder, self._run, self._case = folder, run, case
        self._depends_on = depends_on(case, spec, device)

    def find(self, kernel: str, dtype: torch.dtype) -> Verdict | None:
        path = self._path(self._key(kernel, dtype))
        try:
            if not _own(self._folder):
                return None
            found = Verdict.model_validate_json(path.read_bytes())
            os.utime(path)
        except (OSError, ValidationError):
            return None
        held = found.standing
        asked = (held.kernel, held.dtype, held.key) == (kernel, dtype_name(dtype), self._key(kernel, dtype))
        return found if asked and found.checks and all(check.passed for check in found.checks) else None

    def standing(self, spec: ModelSpec) -> tuple[str, ...]:
        """Name the kernels of the case, each `KERNEL/DTYPE`, whose verdicts stand."""
        target = getattr(torch, self._case.workload.dtype)
        asked = ((each.name, dtype) for each in kernels_of(spec, self._case.optimizations)
                 for dtype in judged_dtypes(each, target))  # fmt: skip
        return tuple(f"{name}/{dtype_name(dtype)}" for name, dtype in asked if self.find(name, dtype))

    def keep(self, kernel: str, dtype: torch.dtype, checks: Iterable[Check]) -> None:
        """Keep checks that all passed. Where the folder cannot be written nothing is kept: they are made again then."""
        made, key = tuple(checks), self._key(kernel, dtype)
        if not made or not all(check.passed for check in made):
            return
        standing = StandingVerdict(kernel=kernel, dtype=dtype_name(dtype), run=self._run, key=key)
        partial = self._path(f"{key}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not _own(self._folder):
                return
            partial.write_text(Verdict(standing=standing, checks=made).model_dump_json())
            os.replace(partial, self._path(key))
            self._forget()
        except OSError:
            with suppress(OSError):
                partial.unlink()

    def _key(self, kernel: str, dtype: torch.dtype) -> str:
        return hashlib.sha256(f"{self._depends_on} {kernel} {dtype_name(dtype)}".encode()).hexdigest()[:32]

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _forget(self) -> None:
        used = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in used[: max(0, len(used) - KEPT)]:
            path.unlink(missing_ok=True)


def depends_on(case: Case, spec: ModelSpec, device: torch.device) -> str:
    """Hash what every op-level check of a case follows from, beside the kernel and its dtype."""
    machine = probe()
    on_gpu = device.type == "cuda"
    settings = {name: value for name, value in process_state().items() if name not in OF_THIS_RUN}
    told = {
        "kernels": kernel_sources(spec),
        "gate": gate_sources(),
        "parameters": case.parameters,
        "seed": case.seed,
        "target": case.workload.dtype,
        "device": torch.cuda.get_device_name(device) if on_gpu else machine.cpu,
        "driver": machine.driver if on_gpu else None,
        "python": platform.python_version(),
        "packages": sorted((dist.name, dist.version) for dist in metadata.distributions()),
        "settings": settings,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _own(folder: Path) -> bool:
    """Whether the folder is this user's and nobody else can write it."""
    found = folder.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
