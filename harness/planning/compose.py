"""Overrides to settings, through Hydra's compose API: no output folder, no logging, no chdir. Only this file imports
Hydra.

A sweep is crossed here: each distinct choice is composed once, and the jobs are put together from the parts, because
composing takes about 40 ms and a sweep of four choices in each of five groups has 1,024 jobs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, UnknownName, UserError
from harness.machine.installation import CONF
from harness.planning.plugins import model_plugins
from harness.planning.settings import Hardware, Settings, dotted_keys, from_config, refuse_unsafe
from harness.planning.stack import FAMILIES, NONE, glob_word

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.types import Override

STACKS = ("arm",)
OPTIMIZATION = "optimization"
"""An ordinary key: which options it has is the model's to say, not a folder's."""
Tree = dict[str, Any]


def jobs(overrides: Sequence[str], multirun: bool) -> list[Settings]:
    """The settings of each job: one without `-m`, the product of all sweeps with it."""
    return [from_config(_resolved(tree)) for tree in _trees(overrides, multirun)]


def texts(overrides: Sequence[str], multirun: bool) -> list[str]:
    """Each job's composed configuration as YAML, before interpolation."""
    from omegaconf import OmegaConf

    return [OmegaConf.to_yaml(OmegaConf.create(tree)) for tree in _trees(overrides, multirun)]


def known_hardware() -> dict[str, Hardware]:
    """Every file of conf/hardware but `auto`, by name."""
    from omegaconf import OmegaConf

    files = (path for path in sorted((CONF / "hardware").glob("*.yaml")) if path.stem != "auto")
    entries = (Hardware.model_validate(OmegaConf.to_container(OmegaConf.load(path))) for path in files)
    return {entry.name: entry for entry in entries}


def _trees(overrides: Sequence[str], multirun: bool) -> list[Tree]:
    with _hydra() as loader:
        parsed = _parsed(loader, overrides, multirun)
        told = [override for override in parsed if _is_parameter(override)]
        rest = [override for override in parsed if not _is_parameter(override)]
        trees = _product(rest) if multirun else [_compose([str(override.input_line) for override in rest])]
        return [_stacked(tree, chosen) for tree in trees for chosen in itertools.product(*_parameter_axes(told))]


@contextmanager
def _hydra() -> Iterator[ConfigLoaderImpl]:
    """Hydra on `conf/`; its errors become one line with the nearest name."""
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    if not CONF.is_dir():
        raise UserError(f"no configuration at {CONF}: this installation lacks its data, install it anew")
    for name in model_plugins():
        ConfigStore.instance().store(group="model", name=name, node={"name": name})
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()  # type: ignore[misc]
    except MissingConfigException as error:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        options = error.options or [path.stem for path in (CONF / group).glob("*.yaml")]
        raise UnknownName(group or "configuration", option, options) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_first_line(error)) from None


def _parsed(loader: ConfigLoaderImpl, overrides: Sequence[str], multirun: bool) -> list[Override]:
    """The overrides, those of a named sweep first; what has no meaning here is refused."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create(config_loader=loader)
    parsed = parser.parse_overrides(list(overrides))
    for override in parsed:
        group = override.key_or_group
        if group.partition("/")[0].partition(".")[0] == "hydra":
            raise ConfigError(f"'{override.input_line}': Hydra's own settings have no effect here")
        if isinstance(override.value(), list) and group not in STACKS and group in loader.list_groups(""):
            raise ConfigError(
                f"'{override.input_line}': one {group} per case; a list is a stack, a comma under -m a sweep"
            )
        if not multirun and (override.is_sweep_override() or group == "sweep" or override.value() in FAMILIES):
            raise ConfigError(f"'{override.input_line}' is a sweep: add -m")
        _check_optimization(override)
    if not multirun:
        return parsed
    fixed = [str(o.input_line) for o in parsed if not o.is_sweep_override() and _top(o) != OPTIMIZATION]
    named = [f"{key}={value}" for key, value in _sweep_parameters(fixed).items()]
    return [_globbed(override) for override in (*parser.parse_overrides(named), *parsed)]


def _check_optimization(override: Override) -> None:
    """Refuse forms of the key that only a group of files would have, and parameters without a name or a value."""
    line, key = override.input_line, str(override.key_or_group)
    if _top(override) != OPTIMIZATION:
        return
    if override.package is not None or "/" in key:
        raise UnknownName("setting", key, [OPTIMIZATION])
    if override.is_delete():
        raise ConfigError(f"'{line}': an empty stack is {OPTIMIZATION}=none")
    if key == OPTIMIZATION and override.is_add():
        raise ConfigError(f"'{line}': '{OPTIMIZATION}' is there already, without a plus")
    if key != OPTIMIZATION and not re.fullmatch(rf"{OPTIMIZATION}\.\w+\.\w+", key):
        raise ConfigError(f"'{line}': what an optimization can be told is {OPTIMIZATION}.NAME.PARAMETER=VALUE")
    if key != OPTIMIZATION and isinstance(override.value(), list | dict):
        raise ConfigError(f"'{line}': one value per case; a comma under -m is a sweep")


def _is_parameter(override: Override) -> bool:
    return _top(override) == OPTIMIZATION and override.key_or_group != OPTIMIZATION


def _parameter_axes(told: Sequence[Override]) -> list[list[tuple[str, Any]]]:
    """The values that each parameter takes, the last override of one counting."""
    from hydra.core.override_parser.types import QuotedString

    latest = {str(override.key_or_group).partition(".")[2]: override for override in told}
    swept = {name: o.sweep_iterator() if o.is_sweep_override() else [o.value()] for name, o in latest.items()}
    return [
        [(name, value.text if isinstance(value, QuotedString) else value) for value in values]
        for name, values in swept.items()
    ]


def _globbed(override: Override) -> Override:
    """The override, a glob over optimizations as one word: the menu of each job's model says what it stands for."""
    from hydra.core.override_parser.types import Glob, Quote, QuotedString, ValueType

    found: Any = override.value()
    if override.key_or_group != OPTIMIZATION or not isinstance(found, Glob):
        return override
    word = QuotedString(glob_word(found.include, found.exclude), Quote.single)
    return replace(override, _value=word, value_type=ValueType.ELEMENT)


def _stacked(tree: Tree, told: Sequence[tuple[str, Any]]) -> Tree:
    """The tree with its stack as `name: {}`, and with the parameters beside it."""
    asked = tree[OPTIMIZATION]
    names = [str(name) for name in (asked if isinstance(asked, list) else [asked])]
    stack: Tree = {} if names == [NONE] else {name: {} for name in names}
    for name, value in told:
        owner, _, parameter = name.partition(".")
        refuse_unsafe({owner: {parameter: value}}, OPTIMIZATION)
    return tree | {OPTIMIZATION: stack | dict(told)}


def _sweep_parameters(overrides: list[str]) -> Mapping[str, str]:
    from hydra import compose

    config = compose("config", overrides, return_hydra_config=True)
    parameters = config.hydra.sweeper.params
    return {} if parameters is None else {str(key): str(value) for key, value in parameters.items()}


def _product(parsed: Sequence[Override]) -> list[Tree]:
    """The tree of every job. Sweeps under different top-level keys are composed apart and crossed; where a choice
    reaches beyond its own key, or one key refers to another, every job is composed."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    latest = {override.get_key_element(): override for override in parsed}.values()
    axes: dict[str, list[Override]] = {}
    for override in latest:
        axes.setdefault(_top(override), []).append(override)
    choices = {top: BasicSweeper.split_arguments(axis, None)[0] for top, axis in axes.items()}
    first = [line for lines in choices.values() for line in lines[0]]
    base = _compose(first)
    parts: list[list[Tree]] = []
    for top, lines in choices.items():
        rest = [line for other, others in choices.items() if other != top for line in others[0]]
        numbers = _numbers(axes[top])
        if numbers is not None:
            parts.append([{top: number} for number in numbers])
            continue
        trees = [base] if len(lines) == 1 else [_compose([*rest, *line]) for line in lines]
        if any(_refers(tree) or _but(tree, top) != _but(base, top) for tree in trees):
            every = itertools.product(*choices.values())
            return [_compose([line for lines in chosen for line in lines]) for chosen in every]
        parts.append([{top: tree[top]} if top in tree else {} for tree in trees])
    return [
        base | {key: value for part in chosen for key, value in part.items()} for chosen in itertools.product(*parts)
    ]


def _numbers(axis: Sequence[Override]) -> list[int | float] | None:
    """The values of a sweep over a plain number such as the seed, which need no composing."""
    override = axis[0]
    if len(axis) > 1 or not override.is_sweep_override() or override.key_or_group != _top(override):
        return None
    values = list(override.sweep_iterator())
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return numbers if len(numbers) == len(values) else None


def _top(override: Override) -> str:
    return re.split(r"[./@]", str(override.key_or_group), maxsplit=1)[0]


def _but(tree: Tree, top: str) -> Tree:
    return {key: value for key, value in tree.items() if key != top}


def _refers(tree: Tree) -> bool:
    return "${" in str(tree)


def _compose(overrides: list[str]) -> Tree:
    """One composed configuration in plain containers, not yet interpolated."""
    from hydra import compose
    from hydra.errors import ConfigCompositionException
    from omegaconf import OmegaConf

    try:
        config = compose("config", overrides)
    except ConfigCompositionException as error:
        key = re.search(r"Could not override '([^']+)'", str(error))
        if key is None:
            raise
        known = dotted_keys(OmegaConf.to_container(compose("config")))
        raise _unknown_key(key[1], known) from None
    tree: Any = OmegaConf.to_container(config, resolve=False)
    refuse_unsafe(tree)
    return dict(tree)


def _unknown_key(key: str, known: Sequence[str]) -> UserError:
    if (CONF / key).is_dir() and key not in known:
        return ConfigError(f"'{key}' is added with a plus: +{key}=...")
    return UnknownName("setting", key, known)


def _resolved(tree: Tree) -> Tree:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not _refers(tree):
        return tree
    try:
        resolved: Any = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from None
    return dict(resolved)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
