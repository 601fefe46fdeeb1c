"""Where a case would run: a choice of hardware held against the machine at hand. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from harness.errors import UserError
from harness.planning.settings import Auto, Hardware, Kind
from harness.records.case import cpu_ranks

CLUSTERS = (9, 0)
"""The first compute capability with thread block clusters."""


class MachineFacts(Protocol):
    """What a probe of the machine tells; `gpu_memory_bytes` is of one GPU, `gpu_names` and `gpu_uuids` are parallel."""

    @property
    def kind(self) -> Literal["cpu", "cuda"]: ...
    @property
    def gpu_names(self) -> tuple[str, ...]: ...
    @property
    def gpu_uuids(self) -> tuple[str, ...]: ...
    @property
    def gpu_memory_bytes(self) -> int | None: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def cpu(self) -> str: ...
    @property
    def cores(self) -> int: ...
    @property
    def capability(self) -> tuple[int, int] | None: ...


@dataclass(frozen=True)
class HardwareTarget:
    """`absent` says why a case cannot run here; then nothing else but `name` and `kind` was found on the machine."""

    name: str
    kind: Kind
    gpu_count: int
    gpu_uuids: tuple[str, ...]
    """Every GPU that fits; the engine takes `gpu_count` of them."""
    memory_bytes: int | None
    """Of one device."""
    capabilities: frozenset[str]
    absent: str | None = None
    note: str | None = None
    elsewhere: str | None = None
    """Why a case could not run on the machine at hand, where it is planned as on one of its own."""

    @property
    def ranks(self) -> int:
        """Processes that hold a model together where it is cut."""
        return cpu_ranks(self.name) or self.gpu_count


class Machines(Protocol):
    """Where the cases of a plan may run: this machine, or a cluster."""

    def place(self, choice: Hardware | Auto) -> HardwareTarget: ...


@dataclass(frozen=True)
class Cluster:
    """Machines that are not this one: a hardware file is taken at its word, and the node is held to it when the case
    starts there."""

    memory_bytes: int
    """Of the machine at hand, for cases on a CPU."""

    def place(self, choice: Hardware | Auto) -> HardwareTarget:
        """Raises UserError for `auto`, which only a machine at hand can resolve."""
        if isinstance(choice, Auto):
            raise UserError("hardware=auto is the machine at hand: name the cluster's hardware, such as hardware=h200")
        offered = {"triton", "c++"}
        if choice.gpu_count:
            offered |= {"cuda", "nvcc"}
        if choice.gpu_count and choice.capability and _version(choice.capability) >= CLUSTERS:
            offered.add("clusters")
        if choice.gpu_count != 1:
            offered.add("ranks")
        return HardwareTarget(
            name=choice.name,
            kind=choice.kind,
            gpu_count=choice.gpu_count,
            gpu_uuids=(),
            memory_bytes=choice.memory_bytes or self.memory_bytes,
            capabilities=frozenset(offered),
        )


@dataclass(frozen=True)
class LocalMachine:
    """The machine, the hardware that is known by name, and whether compilers of C++ and of CUDA C++ are found."""

    machine: MachineFacts
    known: Mapping[str, Hardware]
    cxx: bool
    nvcc: bool

    def place(self, choice: Hardware | Auto) -> HardwareTarget:
        """Resolve a choice of hardware. `auto` is one GPU, or the CPU where there is none."""
        if isinstance(choice, Hardware):
            return self._named(choice)
        if self.machine.kind == "cpu":
            return self._named(self.known["cpu"])
        device = self.machine.gpu_names[0]
        single = [entry for entry in self.known.values() if entry.gpu_count == 1 and _fits(entry, device)]
        return self._named(single[0]) if single else self._unlisted(device)

    def _named(self, hardware: Hardware) -> HardwareTarget:
        if hardware.kind == "cpu":
            return HardwareTarget(hardware.name, "cpu", 0, (), self.machine.memory_bytes, self.capabilities("cpu", 0))
        devices = zip(self.machine.gpu_names, self.machine.gpu_uuids, strict=True)
        uuids = tuple(uuid for name, uuid in devices if _fits(hardware, name))
        short = len(uuids) < hardware.gpu_count
        return HardwareTarget(
            name=hardware.name,
            kind="cuda",
            gpu_count=hardware.gpu_count,
            gpu_uuids=uuids,
            memory_bytes=hardware.memory_bytes if short else self.machine.gpu_memory_bytes,
            capabilities=self.capabilities("cuda", hardware.gpu_count),
            absent=self._missing(hardware, len(uuids)) if short else None,
        )

    def _unlisted(self, device: str) -> HardwareTarget:
        """A GPU that no file describes runs under its own name; no rule depends on a datasheet."""
        name = re.sub(r"[^0-9a-z]+", "_", device.lower()).strip("_")
        devices = zip(self.machine.gpu_names, self.machine.gpu_uuids, strict=True)
        return HardwareTarget(
            name=name,
            kind="cuda",
            gpu_count=1,
            gpu_uuids=tuple(uuid for found, uuid in devices if found == device),
            memory_bytes=self.machine.gpu_memory_bytes,
            capabilities=self.capabilities("cuda", 1),
            note=f"no file under conf/hardware describes '{device}': its cases are filed as {name}",
        )

    def capabilities(self, kind: Kind, gpu_count: int) -> frozenset[str]:
        """What so many devices of a kind offer here, in the words of `Optimization.needs`."""
        offered = {
            "triton": True,
            "cuda": kind == "cuda",
            "clusters": kind == "cuda" and (self.machine.capability or (0, 0)) >= CLUSTERS,
            "nvcc": kind == "cuda" and self.nvcc,
            "c++": self.cxx,
            "ranks": kind == "cpu" or gpu_count > 1,
        }
        return frozenset(name for name, here in offered.items() if here)

    def _missing(self, hardware: Hardware, found: int) -> str:
        here = ", ".join(self.machine.gpu_names) or "no GPU"
        return f"hardware '{hardware.name}' needs {hardware.gpu_count} GPU(s) of its kind, {found} found (here: {here})"


@dataclass(frozen=True)
class OnPaper:
    """For a plan that nothing follows and of which nothing could run here: the machine at hand, and hardware that it
    lacks at the word of its file."""

    here: LocalMachine

    def place(self, choice: Hardware | Auto) -> HardwareTarget:
        found = self.here.place(choice)
        if found.absent is None:
            return found
        return replace(Cluster(self.here.machine.memory_bytes).place(choice), elsewhere=found.absent)


def _version(capability: str) -> tuple[int, ...]:
    """`9.0` -> (9, 0); () for a name that is no compute capability."""
    return tuple(map(int, capability.split("."))) if re.fullmatch(r"\d+\.\d+", capability) else ()


def _fits(hardware: Hardware, device: str) -> bool:
    return hardware.match is not None and re.search(hardware.match, device, re.IGNORECASE) is not None
