"""The corpus of blind faults on disk: `round-N/NAME.yaml`, `NAME.patch` beside it, and the round's `results.jsonl`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from harness.errors import UserError
from harness.records.blind_fault import BlindFault, BlindResult

CORPUS = Path(__file__).resolve().parents[1] / "faults" / "blind"
RESULTS = "results.jsonl"
_ROUND = re.compile(r"round-([1-9]\d*)")
_TOUCHED = re.compile(r"^(?:---|\+\+\+) (\S+)", re.MULTILINE)
_OPTIMIZATION_AUTHORS = re.compile(r"[ab]/models/(?!.*\.\.)\S+")


@dataclass(frozen=True)
class Planted:
    """A fault of the corpus and its patch."""

    round: int
    name: str
    fault: BlindFault
    patch: Path


@dataclass(frozen=True)
class Round:
    """The faults of a round by name, and all that became of them, oldest first."""

    number: int
    faults: tuple[Planted, ...]
    results: tuple[BlindResult, ...]

    def on(self, machine: str) -> tuple[BlindResult, ...]:
        """The results on one kind of device."""
        return tuple(result for result in self.results if result.machine == machine)

    def machines(self) -> tuple[str, ...]:
        return tuple(sorted({result.machine for result in self.results}))


def read_corpus(folder: Path = CORPUS) -> tuple[Round, ...]:
    """Every round, in order. UserError names a file that is not what this module describes."""
    found = ((path, _ROUND.fullmatch(path.name)) for path in folder.glob("round-*"))
    numbers = sorted((int(match[1]), path) for path, match in found if match)
    return tuple(_round(number, path) for number, path in numbers)


def results_path(folder: Path, number: int) -> Path:
    return folder / f"round-{number}" / RESULTS


def read_results(path: Path) -> tuple[BlindResult, ...]:
    """Every line of a results file; none where there is no such file."""
    if not path.exists():
        return ()
    try:
        return tuple(BlindResult.model_validate_json(line) for line in path.read_text().splitlines())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path} holds no results of blind faults: {_told(error)}") from None


def append_result(path: Path, result: BlindResult) -> None:
    """One line more; the folder is made where there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(result.model_dump_json(exclude_defaults=True) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _round(number: int, folder: Path) -> Round:
    faults = tuple(_planted(number, path) for path in sorted(folder.glob("*.yaml")))
    _check_pairs(folder, faults)
    return Round(number, faults, read_results(folder / RESULTS))


def _planted(number: int, path: Path) -> Planted:
    patch = path.with_suffix(".patch")
    try:
        fault = BlindFault.model_validate(yaml.safe_load(path.read_text()))
        touched = _TOUCHED.findall(patch.read_text())
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise UserError(f"{path} describes no blind fault: {_told(error)}") from None
    outside = [name for name in touched if not _OPTIMIZATION_AUTHORS.fullmatch(name)]
    if outside or not touched:
        raise UserError(f"{patch} must change files under models/ alone, and names {', '.join(outside) or 'none'}")
    return Planted(number, path.stem, fault, patch)


def _check_pairs(folder: Path, faults: Sequence[Planted]) -> None:
    alone = {path.stem for path in folder.glob("*.patch")} - {planted.name for planted in faults}
    if alone:
        raise UserError(f"{folder / min(alone)}.patch has no description beside it: {min(alone)}.yaml")


def _told(error: Exception) -> str:
    """The first thing that is wrong, on one line."""
    if isinstance(error, ValidationError):
        one = error.errors()[0]
        return f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
    return " ".join(str(error).split())
