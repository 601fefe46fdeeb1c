"""The command line, in Hydra's own grammar.

`main` gives the exit code: 0 passed, 1 refused, 2 the user's mistake in one line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, TextIO

from harness import compose, registry
from harness.errors import UserError
from harness.stack import FAMILIES, FULL, NONE

if TYPE_CHECKING:
    from harness.session import World

EXAMPLES = """\
  python -m harness +model=NAME                                        the full stack against the reference
  python -m harness +model=NAME 'optimization=[rotary,attention]'      a list is a stack
  python -m harness -m +model=NAME optimization=none,rotary,full       a comma is a sweep
  python -m harness -m +model=NAME optimization.linear.rows=8,16,32    what an optimization is made of, swept
  python -m harness -m '+model=glob(*)' +sweep=ablation plan=only      every model, a named sweep, the plan only
  python -m harness +model=NAME size=full weights=DIRECTORY            real weights
"""


MODEL = "+model="


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
        return _describe(asked.overrides, world, out)
    if not argv:
        return _list_models(world(), out, err)
    if asked.cfg:
        print("---\n".join(compose.texts(asked.overrides, asked.multirun)), end="", file=out)
        return 0
    jobs = compose.jobs(asked.overrides, asked.multirun)
    from harness.session import conduct

    return conduct(jobs, compose.known_hardware(), world(), out, err, sweep=asked.multirun)


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
    groups = (path for path in sorted(compose.CONF.iterdir()) if path.is_dir() and path != compose.CONF / "policy")
    options = [
        f"  {group.name:<13} {', '.join(sorted(file.stem for file in group.glob('*.yaml')))}" for group in groups
    ]
    return (
        "Is an inference optimization right, is it faster, and may it ship?\n\n"
        "python -m harness [-m] [--cfg job] [--help] KEY=VALUE ...\n\n"
        f"{EXAMPLES}\n"
        f"models: {', '.join(registry.names())}\n\n"
        f"optimization: {NONE}, {FULL}, a name, a list of names; under -m also {', '.join(FAMILIES)} and glob(...).\n"
        "  `--help +model=NAME` lists the model's optimizations, and their parameters with default and range\n\n"
        "options of each group (conf/GROUP/OPTION.yaml):\n"
        + "\n".join(options)
        + "\n\nother keys: weights, plan=run|only, proof=RUN, seed, deadline_s, out, reports, report=[html,markdown]\n"
        "exit code: 0 right and not slower, 1 refused, 2 a mistake in what was asked"
    )


def _describe(overrides: Sequence[str], world: Callable[[], World], out: TextIO) -> int:
    """The menus of the models that are named; without one nothing heavy is imported."""
    named = [word.removeprefix(MODEL) for word in overrides if word.startswith(MODEL)]
    if named:
        from harness import console

        load = world().load
        console.print_models({name: load(name) for name in named}, out)
    return 0


def _list_models(world: World, out: TextIO, err: TextIO) -> int:
    from harness import console

    specs = {name: world.load(name) for name in registry.names()}
    console.print_models(specs, out)
    print("error: no model was named: add +model=NAME (--help shows how to ask)", file=err)
    return 2
