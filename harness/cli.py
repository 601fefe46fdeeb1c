"""The command line, in Hydra's own grammar through its compose API: no output folder, no logging, no chdir.

The only file that imports Hydra. `main` gives the exit code: 0 passed, 1 refused, 2 the user's mistake in one line.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from harness import registry
from harness.errors import ConfigError, UnknownName, UserError
from harness.settings import Hardware, Settings, dotted_keys, from_config, refuse_unsafe

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from omegaconf import DictConfig

    from harness.session import World

CONF = Path(__file__).resolve().parents[1] / "conf"
STACKS = ("optimization", "arm")
EXAMPLES = """\
  python -m harness +model=NAME                                        the full stack against the reference
  python -m harness +model=NAME 'optimization=[rotary,attention]'      a list is a stack
  python -m harness -m +model=NAME optimization=none,rotary,full       a comma is a sweep
  python -m harness -m '+model=glob(*)' +sweep=ablation plan=only      every model, a named sweep, the plan only
  python -m harness +model=NAME size=full weights=DIRECTORY            real weights
"""


def main(argv: Sequence[str], world: Callable[[], World], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    try:
        return _main(argv, world, out, err)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=err)
        return 2


def _main(argv: Sequence[str], world: Callable[[], World], out: TextIO, err: TextIO) -> int:
    asked = _parser().parse_intermixed_args(argv)
    if asked.help:
        print(_help(), file=out)
        return 0
    if not argv:
        return _list_models(world(), out, err)
    with _hydra() as loader:
        composed = [_compose(job) for job in _jobs(loader, asked.overrides, asked.multirun)]
    if asked.cfg:
        from omegaconf import OmegaConf

        print("---\n".join(OmegaConf.to_yaml(config) for config in composed), end="", file=out)
        return 0
    jobs = [_settings(config) for config in composed]
    from harness.session import conduct

    return conduct(jobs, known_hardware(), world(), out, err)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help shows how to ask)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m harness", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--cfg", choices=("job",))
    parser.add_argument("overrides", nargs="*")
    return parser


def _help() -> str:
    groups = (path for path in sorted(CONF.iterdir()) if path.is_dir())
    options = [
        f"  {group.name:<13} {', '.join(sorted(file.stem for file in group.glob('*.yaml')))}" for group in groups
    ]
    return (
        "Is an inference optimization right, is it faster, and may it ship?\n\n"
        "python -m harness [-m] [--cfg job] [--help] KEY=VALUE ...\n\n"
        f"{EXAMPLES}\n"
        f"models: {', '.join(registry.names())}\n\noptions of each group (conf/GROUP/OPTION.yaml):\n"
        + "\n".join(options)
        + "\n\nother keys: weights, plan=run|only, seed, deadline_s, out, reports, report=[html,markdown]\n"
        "exit code: 0 right and not slower, 1 refused, 2 a mistake in what was asked"
    )


def _list_models(world: World, out: TextIO, err: TextIO) -> int:
    from harness import console

    specs = {name: world.load(name) for name in registry.names()}
    console.print_models([(name, tuple(spec.sizes), spec.menu.names()) for name, spec in specs.items()], out)
    print("error: no model was named: add +model=NAME (--help shows how to ask)", file=err)
    return 2


@contextmanager
def _hydra() -> Iterator[ConfigLoaderImpl]:
    """Hydra on `conf/`; its errors become one line with the nearest name."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    if not CONF.is_dir():
        raise UserError(f"no configuration at {CONF}: run from a checkout, the installed package does not carry conf/")
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()  # type: ignore[misc]
    except MissingConfigException as error:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        raise UnknownName(group or "configuration", option, error.options or ()) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_first_line(error)) from None


def _jobs(loader: ConfigLoaderImpl, overrides: list[str], multirun: bool) -> list[list[str]]:
    """The overrides of each job: one without `-m`, the product of all sweeps with it."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create(config_loader=loader)
    parsed = parser.parse_overrides(overrides)
    for override in parsed:
        group = override.key_or_group
        if group.partition("/")[0].partition(".")[0] == "hydra":
            raise ConfigError(f"'{override.input_line}': Hydra's own settings have no effect here")
        if isinstance(override.value(), list) and group not in STACKS and group in loader.list_groups(""):
            raise ConfigError(
                f"'{override.input_line}': one {group} per case; a list is a stack, a comma under -m a sweep"
            )
        if not multirun and (override.is_sweep_override() or group == "sweep"):
            raise ConfigError(f"'{override.input_line}' is a sweep: add -m")
    if not multirun:
        return [overrides]
    fixed = [line for line, override in zip(overrides, parsed, strict=True) if not override.is_sweep_override()]
    named = parser.parse_overrides([f"{key}={value}" for key, value in _sweep_parameters(fixed).items()])
    return [job for batch in BasicSweeper.split_arguments(named + parsed, None) for job in batch]


def _sweep_parameters(overrides: list[str]) -> Mapping[str, str]:
    from hydra import compose

    config = compose("config", overrides, return_hydra_config=True)
    parameters = config.hydra.sweeper.params
    return {} if parameters is None else {str(key): str(value) for key, value in parameters.items()}


def _compose(overrides: list[str]) -> DictConfig:
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
    refuse_unsafe(OmegaConf.to_container(config, resolve=False))
    return config


def _unknown_key(key: str, known: Sequence[str]) -> UserError:
    if (CONF / key).is_dir() and key not in known:
        return ConfigError(f"'{key}' is added with a plus: +{key}=...")
    return UnknownName("setting", key, known)


def _settings(config: DictConfig) -> Settings:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        composed: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from None
    return from_config(composed)


def known_hardware() -> dict[str, Hardware]:
    """Every file of conf/hardware but `auto`, by name."""
    from omegaconf import OmegaConf

    files = (path for path in sorted((CONF / "hardware").glob("*.yaml")) if path.stem != "auto")
    entries = (Hardware.model_validate(OmegaConf.to_container(OmegaConf.load(path))) for path in files)
    return {entry.name: entry for entry in entries}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
