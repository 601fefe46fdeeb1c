"""Models of other distributions, found by their entry points; none of them is imported to be found.

[project.entry-points."inference_pio.models"]
my_model = "my_package.my_model:SPEC"
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from harness.errors import UserError

GROUP = "inference_pio.models"


def model_plugins() -> Mapping[str, EntryPoint]:
    """Model name -> the entry point of its SPEC. Raises UserError where two installed distributions claim one name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UserError(f"two plugins are named '{point.name}': {told(other)} and {told(point)}: uninstall one")
    return found


def told(point: EntryPoint) -> str:
    """Where a plugin comes from, in words."""
    return f"{point.value} of {point.dist.name}" if point.dist else point.value
