"""Launch shapes as data: for a kernel and a class of sizes, the numbers that were the fastest on one device.

`launch_shapes.json` in the `kernels` directory of a model holds those of its decode steps; `python -m harness tune`
makes it:

    {"tuned_on": {"device", "torch", "triton", "commit"}, "record": path, "carried_from": null or {"model", "how"},
     "kernels": {kernel: [{"sizes": {name: number or [least, most]}, "launch": {argument: number}}]}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from harness.errors import ConfigError
from harness.spec.tuning import Launch

Sizes = Mapping[str, int | tuple[int, int]]
"""Name of a size -> the one, or the least and the most, that a class covers."""


@dataclass(frozen=True)
class Tuned:
    """The fastest launch of one class of sizes."""

    sizes: Sizes
    launch: Launch

    def covers(self, sizes: Mapping[str, int]) -> bool:
        """Whether a call of these sizes, named as the class names them, is in it."""
        return sizes.keys() == self.sizes.keys() and all(
            least <= sizes[name] <= most for name, (least, most) in self._ranges()
        )

    def _ranges(self) -> list[tuple[str, tuple[int, int]]]:
        return [(name, size if isinstance(size, tuple) else (size, size)) for name, size in self.sizes.items()]


@dataclass(frozen=True)
class LaunchShapes:
    """What one model's decode steps were found to be launched best with."""

    device: str
    """The GPU that they were tuned on, by the name its driver gives it."""
    record: str
    """The measurements that chose them, a path in the repository."""
    carried_from: str | None
    """The model whose sizes were measured and how they were carried over; None where it is this one."""
    kernels: Mapping[str, tuple[Tuned, ...]]

    def find(self, kernel: str, sizes: Mapping[str, int]) -> Launch | None:
        """Return the launch of the first class that covers `sizes`; None where none does."""
        return next((each.launch for each in self.kernels.get(kernel, ()) if each.covers(sizes)), None)

    def fit(self, device: torch.device) -> bool:
        """Whether they were tuned on a GPU of the same name as `device`."""
        return device.type == "cuda" and torch.cuda.get_device_name(device) == self.device

    def note(self, device: torch.device) -> str:
        """Return what a receipt says of them on a GPU."""
        if not self.fit(device):
            return f"default launch shapes: those at hand were tuned on {self.device}, not on this device"
        carried = f", carried over from {self.carried_from}" if self.carried_from else ""
        return f"launch shapes tuned on {self.device}{carried}"


@cache
def launch_shapes(kernels: Path) -> LaunchShapes:
    """Read `launch_shapes.json` in a model's directory of kernels. Raises ConfigError, naming the file, where it is
    missing or holds something else."""
    path = kernels / "launch_shapes.json"
    try:
        held = json.loads(path.read_text())
        tuned = {kernel: tuple(_tuned(each) for each in found) for kernel, found in held["kernels"].items()}
        carried = held["carried_from"]
        return LaunchShapes(
            device=held["tuned_on"]["device"],
            record=held["record"],
            carried_from=carried and f"{carried['model']}: {carried['how']}",
            kernels=tuned,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: no launch shapes can be read ({type(error).__name__}: {error})") from None


def _tuned(held: Mapping[str, Any]) -> Tuned:
    sizes = {name: tuple(size) if isinstance(size, list) else size for name, size in held["sizes"].items()}
    return Tuned(sizes, held["launch"])
