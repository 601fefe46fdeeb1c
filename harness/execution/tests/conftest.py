"""A real Slurm of one node, with accounting and two fake GPUs, on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm_loopback.sh")
COMMANDS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "munged", "mariadbd", "mariadb-install-db")
WITH_DAEMONS = {"PATH": f"{os.environ['PATH']}:/usr/sbin"}


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its configuration."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    lacking = [name for name in COMMANDS if shutil.which(name, path=WITH_DAEMONS["PATH"]) is None]
    if lacking:
        pytest.skip(f"Slurm on loopback needs {', '.join(lacking)}")
    if os.getuid() != 0:
        pytest.skip("Slurm on loopback needs root, to make its fake GPUs")
    folder = tmp_path_factory.mktemp("slurm")
    environment = os.environ | WITH_DAEMONS
    with (folder / "start").open("w") as said:
        began = subprocess.run(
            [SCRIPT, "start", folder], stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=environment, check=False
        )
    try:
        assert began.returncode == 0, (folder / "start").read_text()
        yield folder / "slurm.conf"
    finally:
        subprocess.run([SCRIPT, "stop", folder], env=environment, check=True)


@pytest.fixture
def loopback(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is asked of Slurm in this test is asked of the one on loopback."""
    monkeypatch.setenv("SLURM_CONF", str(slurm))
    return slurm
