"""Hashes of what a result depends on beyond the commit: the model's config and the sources of its kernels."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from harness.build import registry
from harness.build.builder import Source
from harness.machine.installation import ROOT
from harness.records.record import Provenance
from harness.spec.model import ModelSpec

FRESH = "INFERENCE_PIO_FRESH_CACHES"
"""Set by the engine for a worker whose kernel caches it has just made, empty."""
ENDINGS = ("*.py", "*.cu", "launch_shapes.json")
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
    return _sources(registry.MODELS / "common", registry.source(spec.name))


def gate_sources() -> str:
    """Hash of all sources that judge a build, tests left out."""
    judging = ("build", "parity", "spec", "records/checks.py")
    return _sources(*(ROOT / "harness" / place for place in judging))


def _sources(*places: Path) -> str:
    """Of folders, and of modules that are one file."""
    digest = hashlib.sha256()
    for place in places:
        inside = [place] if place.is_file() else [path for ending in ENDINGS for path in place.rglob(ending)]
        for path in sorted(path for path in inside if "tests" not in path.relative_to(place).parts):
            name = path.relative_to(place.parent).as_posix()
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
