"""`python -m harness [run] +model=X ...`, in Hydra's own grammar."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from io import StringIO
from typing import TYPE_CHECKING, NoReturn, TextIO

from harness.build import registry
from harness.commands import services
from harness.errors import UserError
from harness.machine.installation import CONF
from harness.planning import compose
from harness.planning.stack import FAMILIES, FULL, NONE

if TYPE_CHECKING:
    from harness.execution.session import Services

EXAMPLES = """\
  python -m harness +model=NAME                                        the full stack against the reference
  python -m harness +model=NAME 'optimization=[rotary,attention]'      a list is a stack
  python -m harness -m +model=NAME optimization=none,rotary,full       a comma is a sweep
  python -m harness -m +model=NAME optimization.linear.rows=8,16,32    what an optimization is made of, swept
  python -m harness -m '+model=glob(*)' +sweep=ablation plan=only      every model, a named sweep, the plan only
  python -m harness +model=NAME size=full weights=DIRECTORY            real weights
"""


MODEL = "+model="


def main(
    arguments: Sequence[str],
    out: TextIO = sys.stdout,
    err: TextIO = sys.stderr,
    services: Callable[[], Services] = services.services,
) -> int:
    """0: right and not slower. 1: refused. Raises UserError on a mistake in what was asked."""
    asked = _parser().parse_intermixed_args(arguments)
    if not arguments:
        return _list_models(services(), out, err)
    if asked.cfg:
        print("---\n".join(compose.texts(asked.overrides, asked.multirun)), end="", file=out)
        return 0
    jobs = compose.jobs(asked.overrides, asked.multirun)
    from harness.execution.session import conduct

    return conduct(jobs, compose.known_hardware(), services(), out, err, sweep=asked.multirun)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help shows how to ask)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m harness", add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--cfg", choices=("job",))
    parser.add_argument("overrides", nargs="*")
    return parser


def help_text(words: Sequence[str] = ()) -> str:
    """How to ask, and what the models that `words` name can be told; without one nothing heavy is imported."""
    groups = (path for path in sorted(CONF.iterdir()) if path.is_dir() and path != CONF / "policy")
    options = [
        f"  {group.name:<13} {', '.join(sorted(file.stem for file in group.glob('*.yaml')))}" for group in groups
    ]
    text = (
        "Is an inference optimization right, is it faster, and may it ship?\n\n"
        "python -m harness [run] [-m] [--cfg job] [--help] KEY=VALUE ...\n\n"
        f"{EXAMPLES}\n"
        f"models: {', '.join(registry.names())}\n\n"
        f"optimization: {NONE}, {FULL}, a name, a list of names; under -m also {', '.join(FAMILIES)} and glob(...).\n"
        "  `--help +model=NAME` lists the model's optimizations, and their parameters with default and range\n\n"
        "options of each group (conf/GROUP/OPTION.yaml):\n"
        + "\n".join(options)
        + "\n\nother keys: weights, recipe=trained_like|random, plan=run|only, proof=RUN, verdicts=reuse|anew, seed,\n"
        "  deadline_s, out, reports, report=[html,markdown]\n"
        "exit code: 0 right and not slower, 1 refused, 2 a mistake in what was asked"
    )
    named = [word.removeprefix(MODEL) for word in words if word.startswith(MODEL)]
    return text + (f"\n\n{_menus(named)}" if named else "")


def _menus(models: Sequence[str]) -> str:
    from harness.report import console

    out = StringIO()
    console.print_models({name: registry.load(name) for name in models}, out)
    return out.getvalue().rstrip()


def _list_models(world: Services, out: TextIO, err: TextIO) -> int:
    from harness.report import console

    specs = {name: world.load(name) for name in registry.names()}
    console.print_models(specs, out)
    print("error: no model was named: add +model=NAME (--help shows how to ask)", file=err)
    return 2
