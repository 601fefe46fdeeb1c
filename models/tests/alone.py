"""`python -m models.tests.alone MODEL DIRECTORY`: a copy of the project that knows one model only, to test it in."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from harness.build.registry import load, names

ROOT = Path(__file__).resolve().parents[2]


def alone(root: Path, name: str) -> Path:
    """The copy, in `root`. UnknownName for a model that there is not: the copy would hold none."""
    others = sorted({*names()} - {load(name).name})
    ignored = shutil.ignore_patterns("__pycache__", *others, *(f"{other}.yaml" for other in others))
    for folder in ("harness", "models", "conf"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


if __name__ == "__main__":
    print(alone(Path(sys.argv[2]), sys.argv[1]))
