"""test_shards/plans.yaml: the sweep of each kind of machine, and into how many shards it is cut."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from harness.errors import ConfigError
from harness.machine.installation import WORK
from harness.records.case import Frozen

PLANS = WORK / "test_shards" / "plans.yaml"


class ShardPlan(Frozen):
    """`sweep` holds overrides, as after `python -m harness -m`."""

    shards: int = Field(ge=1)
    sweep: tuple[str, ...] = Field(min_length=1)


def read(path: Path) -> dict[str, ShardPlan]:
    """Kind of machine -> its plan. ConfigError names the field that is wrong, or what is no YAML."""
    import yaml

    try:
        return TypeAdapter(dict[str, ShardPlan]).validate_python(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path.name}: {error}") from None
