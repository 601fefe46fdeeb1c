"""`python -m tools.judge_mutations`: change what judges, one small thing at a time, and see whether a test notices.

Every trial is kept and counts as long as its module is what it was: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.judge_mutations import page, trial
from tools.judge_mutations.kept import Kept
from tools.judge_mutations.mutants import Module, Mutant, table

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """0: no mutant survived but those that are written down; 1: others did."""
    options = _parser().parse_args(argv)
    tests = table((HERE / "modules.yaml").read_text())
    modules = {path: Module(ROOT, path) for path in tests if any(word in path for word in options.only)}
    if options.page and options.only != [""]:
        raise SystemExit("a page tells of every module: name none")
    kept = Kept(options.kept)
    asked = _asked(modules, kept, options)
    trial.warm()
    survivors = list(_judged(modules, tests, asked, kept))
    if options.page:
        page.write(ROOT, modules, kept, _commit())
    unknown = [mutant for mutant in survivors if not page.is_known(mutant)]
    for mutant in unknown:
        print(f"{mutant.module}:{mutant.line}: no test notices {mutant.change}")
    print(f"{len(asked)} mutants, {len(survivors)} of them survived, {len(unknown)} of those are not written down")
    return int(bool(unknown))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.judge_mutations", description=__doc__)
    parser.add_argument("only", nargs="*", default=[""], help="words of which one is in a module's path")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn from the seed, the rest left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="ask the survivors once more: their tests have changed")
    parser.add_argument("--page", action="store_true", help="write docs/judge-mutations.md and what it is made of")
    parser.add_argument("--kept", type=Path, default=ROOT / ".judge_mutations.jsonl", help="where every trial is kept")
    return parser


def _commit() -> str:
    said = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return said.stdout.strip()


def _asked(modules: dict[str, Module], kept: Kept, options: argparse.Namespace) -> list[Mutant]:
    mutants = [mutant for module in modules.values() for mutant in module.mutants]
    if options.sample is not None:
        return random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
    known = {mutant.name: kept.outcome(modules[mutant.module], mutant) for mutant in mutants}
    again = (None, "survived", "not run") if options.again else (None,)
    return [mutant for mutant in mutants if known[mutant.name] in again]


def _judged(
    modules: dict[str, Module], tests: Mapping[str, tuple[str, ...]], asked: Sequence[Mutant], kept: Kept
) -> list[Mutant]:
    """Those that survived."""
    survivors = []
    for path, module in modules.items():
        mine = [mutant for mutant in asked if mutant.module == path]
        if not mine:
            continue
        known = trial.baseline(module, tests[path])
        for mutant in mine:
            outcome = trial.judge(module, mutant, tests[path], known)
            kept.keep(module, mutant, outcome)
            if outcome in ("survived", "not run"):
                survivors.append(mutant)
        lost = sum(mutant.module == path for mutant in survivors)
        print(f"{path}: {len(mine) - lost} of {len(mine)} killed", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main())
