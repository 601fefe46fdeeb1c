"""What a record was measured on, and the two halves of it that a time may depend on: the device, and its host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.records.case import Frozen, digest_of

CODE: dict[str, Any] = {"commit": "", "dirty": False, "diff_hash": None, "command": []}
"""Fields that tell of the code alone, at what a fingerprint holds in their place."""
DEVICE = ("gpu", "gpu_memory_bytes", "driver", "cuda", "power_limit_w", "ecc", "mig")
HOST = ("cpu", "cpu_cores", "memory_bytes", "platform", "python", "gpu_count")
PACKAGES = "packages"
READS_THE_DEVICE = "nvidia-ml-py"
"""The one distribution of NVIDIA's that launches nothing."""


class Environment(Frozen):
    """Everything that could explain a difference."""

    commit: str
    dirty: bool
    diff_hash: str | None
    command: tuple[str, ...]
    python: str
    platform: str
    packages: dict[str, str]
    cpu: str
    cpu_cores: int
    memory_bytes: int
    gpu: str | None = None
    gpu_count: int = 0
    gpu_memory_bytes: int | None = None
    driver: str | None = None
    cuda: str | None = None
    power_limit_w: float | None = None
    ecc: bool | None = None
    mig: bool | None = None

    def fingerprint(self) -> str:
        """Equal only where all absolute times may be compared: device, host and versions, not the code."""
        return digest_of(self.model_dump(mode="json") | CODE)

    def device_fingerprint(self) -> str:
        """Equal where times that the device alone decides may be compared: GPU, driver, settings and its libraries."""
        return digest_of(self._device())

    def host_fingerprint(self) -> str:
        """Equal where what launches on the device is as fast: processor, memory, system and the other packages."""
        return digest_of(self._host())

    def device_differences(self, other: Environment) -> tuple[str, ...]:
        """Fields in which the devices differ."""
        return _differences(self._device(), other._device())

    def host_differences(self, other: Environment) -> tuple[str, ...]:
        """Fields in which the hosts differ."""
        return _differences(self._host(), other._host())

    def _device(self) -> dict[str, Any]:
        ours = {name: version for name, version in self.packages.items() if _runs_on_device(name)}
        return {name: getattr(self, name) for name in DEVICE} | {PACKAGES: ours}

    def _host(self) -> dict[str, Any]:
        ours = {name: version for name, version in self.packages.items() if not _runs_on_device(name)}
        return {name: getattr(self, name) for name in HOST} | {PACKAGES: ours}


def _runs_on_device(package: str) -> bool:
    return package in ("torch", "triton") or (package.startswith("nvidia-") and package != READS_THE_DEVICE)


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in ours if ours[name] != theirs[name])
