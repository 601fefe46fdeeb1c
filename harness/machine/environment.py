"""Everything that could explain a difference between two runs, and nothing that names a person or a place."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.machine.hardware import nvml, probe, visible_gpus
from harness.records.record import Environment
from harness.records.redaction import hide

PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "safetensors",
    "numpy",
    "scipy",
    "hydra-core",
    "pydantic",
    "liger-kernel",
    "nvidia-ml-py",
    "inference-pio",
)
LIBRARIES = ("nvidia-cublas", "nvidia-cudnn", "nvidia-nccl", "nvidia-cuda-runtime")
"""Any distribution whose name starts so: the CUDA libraries that torch was shipped with."""
RESULTS = ("benchmark_results", "reports", "harness/faults/blind/*/results.jsonl")
"""What runs write: no part of the source, so writing it does not make the tree dirty."""

_OF_ONE_REPOSITORY = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"}
)
_WHOLE_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABSOLUTE_PATH = re.compile(r"(?<![^\s=,:\[\]()'\"])(?:~|/(?!/))[^\s=,\[\]()'\"]*(?=/)")


def capture(repository: Path | None, command: Sequence[str]) -> Environment:
    """Describe the code, the versions and the machine. Code that is in no git checkout is `unknown` and dirty."""
    machine = probe()
    commit, diff_hash = source_state(repository) if repository else (None, None)
    return Environment(
        commit=commit or "unknown",
        dirty=commit is None or diff_hash is not None,
        diff_hash=diff_hash,
        command=tuple(without_folders(hide(argument, os.environ)) for argument in command),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        packages=packages(),
        cpu=machine.cpu,
        cpu_cores=machine.cores,
        memory_bytes=machine.memory_bytes,
        gpu=machine.gpu_names[0] if machine.gpu_names else None,
        gpu_count=machine.gpu_count,
        gpu_memory_bytes=machine.gpu_memory_bytes,
        driver=machine.driver,
        **_gpu_settings(),
    )


def source_state(repository: Path) -> tuple[str | None, str | None]:
    """The commit (None without one) and a hash of all that differs from it: tracked changes, and the names and contents
    of untracked files that are not ignored; None when nothing differs."""
    outside = [f":(exclude){folder}" for folder in RESULTS]
    commit = _git(repository, "rev-parse", "HEAD")
    changes = _git(
        repository, "diff", "HEAD", "--binary", "--full-index", "--no-ext-diff", "--no-textconv", "--", *outside
    )
    listed = _git(repository, "ls-files", "-z", "--others", "--exclude-standard", "--", *outside)
    if commit is None or changes is None or listed is None:
        return None, None
    untracked = sorted(name for name in listed.split(b"\0") if name)
    if not changes and not untracked:
        return commit.decode().strip(), None
    digest = hashlib.sha256(changes)
    for name in untracked:
        content = _content(repository / os.fsdecode(name))
        digest.update(b"\0%d\0%s\0%d\0%s" % (len(name), name, len(content), content))
    return commit.decode().strip(), digest.hexdigest()[:16]


def holds(repository: Path, commit: str) -> bool | None:
    """Whether a branch, a tag or a work tree of the repository has the commit in its past, so that others get it with
    a clone. None outside a checkout."""
    if _git(repository, "rev-parse", "HEAD") is None:
        return None
    if not _WHOLE_HASH.fullmatch(commit):
        return False
    return _git(repository, "rev-list", "--max-count=1", "--not", "--all", "--not", "--end-of-options", commit) == b""


def packages() -> dict[str, str]:
    """Installed versions of what can change a result; what is not installed is left out."""
    versions = {dist.name.lower().replace("_", "-"): dist.version for dist in metadata.distributions()}
    return {name: versions[name] for name in sorted(versions) if name in PACKAGES or name.startswith(LIBRARIES)}


def without_folders(argument: str) -> str:
    """The argument with the folders of each absolute path replaced by dots: `weights=/home/me/x` is `weights=.../x`."""
    return _ABSOLUTE_PATH.sub("...", argument)


def _git(repository: Path, *arguments: str) -> bytes | None:
    """Standard output, or None where git is missing or refuses, as it does outside a checkout."""
    command = ["git", "-c", "core.quotepath=off", *arguments]
    try:
        done = subprocess.run(command, cwd=repository, env=_asking_here(), capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _asking_here() -> dict[str, str]:
    """Without what git sets for its hooks and for `git bisect run`: it would name another repository or work tree."""
    return {name: value for name, value in os.environ.items() if name not in _OF_ONE_REPOSITORY}


def _content(path: Path) -> bytes:
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()


def _gpu_settings() -> dict[str, Any]:
    """Power limit, ECC, MIG and the driver's CUDA version, of the first visible GPU."""
    with nvml() as api:
        gpus = visible_gpus(api) if api else ()
        if not gpus:
            return {}

        def ask(query: Callable[[Any], Any]) -> Any:
            try:
                return query(gpus[0])
            except api.NVMLError_NotSupported:
                return None

        cuda = api.nvmlSystemGetCudaDriverVersion_v2()
        milliwatts = ask(api.nvmlDeviceGetEnforcedPowerLimit)
        ecc, mig = ask(api.nvmlDeviceGetEccMode), ask(api.nvmlDeviceGetMigMode)
        return {
            "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}",
            "power_limit_w": None if milliwatts is None else milliwatts / 1e3,
            "ecc": None if ecc is None else bool(ecc[0]),
            "mig": None if mig is None else bool(mig[0]),
        }
