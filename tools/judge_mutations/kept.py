"""Trials that were made, as JSON lines; one counts as long as the module has the text that was changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tools.judge_mutations.mutants import Module, Mutant


class Kept:
    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._outcomes = {(found["module"], found["name"]): found["outcome"] for found in map(json.loads, lines)}

    def outcome(self, module: Module, mutant: Mutant) -> str | None:
        """None for a mutant that was not judged."""
        found: str | None = self._outcomes.get((_digest(module), mutant.name))
        return found

    def keep(self, module: Module, mutant: Mutant, outcome: str) -> None:
        """On disk when this returns."""
        digest = _digest(module)
        self._outcomes[digest, mutant.name] = outcome
        with self.path.open("a") as file:
            file.write(json.dumps({"module": digest, "name": mutant.name, "outcome": outcome}) + "\n")


def _digest(module: Module) -> str:
    return hashlib.sha256(module.text.encode()).hexdigest()[:16]
