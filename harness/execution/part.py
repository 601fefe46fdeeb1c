"""What one process of a case does, in the words of `harness.execution.worker`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Part:
    does: Literal["prove", "time", "mutants"]
    process: int = 0
    kernels: bool = False
    """Whether the kernels are timed one by one, too."""

    @property
    def file(self) -> str:
        """The name of the fragment that it leaves."""
        return f"{self.does}-{self.process}.json"

    def label(self, processes: int) -> str:
        if self.does == "time":
            return f"time, process {self.process + 1} of {processes}"
        return "prove parity" if self.does == "prove" else "plant faults"

    def arguments(self, case: Path, left: Path) -> list[str]:
        """Of the worker that reads `case` and leaves its fragment at `left`."""
        process = ["--process", str(self.process)] if self.does == "time" else []
        return [str(case), self.does, str(left), *process, *(["--kernels"] if self.kernels else [])]
