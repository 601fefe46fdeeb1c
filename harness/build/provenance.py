"""Hashes of what a result depends on beyond the commit: the model's config and the sources of its kernels."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from harness.build.builder import Source
from harness.machine.installation import ROOT
from harness.records.record import Provenance
from harness.spec.model import ModelSpec

FRESH = "INFERENCE_PIO_FRESH_CACHES"
"""Set by the engine for a worker whose kernel caches it has just made, empty."""
MODELS = ROOT / "models"
LOCK = ROOT / "constraints.txt"


def provenance(spec: ModelSpec, source: Source, aot_compiled: Iterable[str] = ()) -> Provenance:
    config = json.dumps(dict(source.config), sort_keys=True).encode()
    return Provenance(
        hf_config=hashlib.sha256(config).hexdigest()[:16],
        kernel_sources=kernel_sources(spec),
        aot_compiled=tuple(aot_compiled),
        fresh_caches=FRESH in os.environ,
        lock=hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16] if LOCK.exists() else "",
    )


def kernel_sources(spec: ModelSpec) -> str:
    """Hash of all sources that a build of the model is made of, tests left out."""
    return _sources(MODELS / "common", MODELS / spec.name)


def _sources(*folders: Path) -> str:
    digest = hashlib.sha256()
    sources = (path for folder in folders for ending in ("*.py", "*.cu") for path in folder.rglob(ending))
    for path in sorted(path for path in sources if "tests" not in path.parts):
        digest.update(path.relative_to(MODELS).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
