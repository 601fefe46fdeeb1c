"""What is on record about the gate itself: planted faults that it saw, right answers that it refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from harness.errors import RecordError
from harness.records.blind_corpus import CORPUS, Round, read_corpus
from harness.records.calibration import Calibration
from harness.records.record import Record
from harness.records.run_file import read_file

CALIBRATIONS = "calibration"
"""The folder of calibrations beside the records."""
WITH_MATRIX = b'"kill_matrix":{'
"""In every run file that holds a kill matrix; few others are worth their validation."""


@dataclass(frozen=True)
class Source:
    """A record where it lies."""

    path: str
    """Under the folder of records."""
    digest: str
    """Of the record's content."""
    record: Record


@dataclass(frozen=True)
class CalibrationFile:
    path: str
    """Under the folder of records."""
    calibration: Calibration

    def of(self) -> tuple[str, str, str | None]:
        """Model, device and, where that is one, the name of the GPU."""
        made = self.calibration
        return made.model, made.device, None if made.device == "cpu" else made.environment.gpu


@dataclass(frozen=True)
class GateRecords:
    """All that a folder of records says of the gate, each oldest first."""

    matrices: tuple[Source, ...] = ()
    calibrations: tuple[CalibrationFile, ...] = ()
    blind: tuple[Round, ...] = ()
    """The corpus of these sources."""

    def matrix_of(self, record: Record) -> Source | None:
        return newest_matrix(record, self.matrices)

    def calibration_of(self, record: Record) -> CalibrationFile | None:
        """The newest of the same model on the same kind of device."""
        if record.environment is None:
            return None
        gpu = None if record.case.on_cpu else record.environment.gpu
        wanted = (record.case.model, "cpu" if gpu is None else "cuda", gpu)
        return next((file for file in reversed(self.calibrations) if file.of() == wanted), None)


def newest_matrix(record: Record, sources: Sequence[Source]) -> Source | None:
    """The newest of `sources`, oldest first, with a kill matrix of the same model on the same hardware, from the same
    kernel sources in a clean commit."""
    wanted = record.provenance
    if wanted is None:
        return None
    for source in reversed(sources):
        other, held = source.record, source.record.provenance
        if not other.kill_matrix or held is None or other.provisional:
            continue
        alike = (other.case.model, other.case.hardware) == (record.case.model, record.case.hardware)
        if alike and held.kernel_sources == wanted.kernel_sources:
            return source
    return None


def read(folder: Path, holding: bytes = b"") -> list[Source]:
    """Every record under `folder` in a file that holds those bytes, oldest first. RecordError names a file that is not
    what was written."""
    found = []
    for path in sorted(folder.rglob("*.jsonl")):
        if holding and holding not in path.read_bytes():
            continue
        file = read_file(path)
        name = path.relative_to(folder).as_posix()
        found += [Source(name, digest, record) for digest, record in zip(file.hashes, file.records, strict=True)]
    return sorted(found, key=lambda source: (source.record.started_at, source.path))


def read_gate(folder: Path, corpus: Path = CORPUS) -> GateRecords:
    """What a report tells of the gate, from records and from the corpus of blind faults; nothing where there is no such
    folder."""
    matrices = [source for source in read(folder, WITH_MATRIX) if source.record.kill_matrix]
    made = [_calibration(path, folder) for path in (folder / CALIBRATIONS).glob("*.json")]
    return GateRecords(tuple(matrices), tuple(sorted(made, key=lambda file: _made_at(file.path))), read_corpus(corpus))


def _calibration(path: Path, folder: Path) -> CalibrationFile:
    try:
        return CalibrationFile(path.relative_to(folder).as_posix(), Calibration.model_validate_json(path.read_bytes()))
    except (OSError, ValidationError) as error:
        raise RecordError(f"{path} is no calibration as `harness.commands.calibrate` writes it: {error}") from None


def _made_at(path: str) -> datetime:
    """From the name that `harness.commands.calibrate` gives it."""
    try:
        return datetime.strptime(Path(path).name.split("-")[1], "%Y%m%dT%H%M%S")
    except (IndexError, ValueError):
        raise RecordError(f"{path}: its name does not say when it was made") from None
