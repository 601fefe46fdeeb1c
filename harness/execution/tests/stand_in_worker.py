"""A worker that ends as the case's first optimization says. Run as a real process by the engine's tests."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from harness.records import check_log
from harness.records.checks import Check, Parity
from harness.records.partial_record import PartialRecord
from harness.records.record import Failure, ReceiptNote, Series

CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "CUDA_CACHE_PATH")
FRESH = "INFERENCE_PIO_FRESH_CACHES"
WRONG_SEED = 7
HANG_ONCE_SEED = 8


def parity(error: float) -> Parity:
    return Parity(checks=(Check(level="op", subject="k", name="out", rule="max", error=error, noise=1.0, limit=2.0),))


def meet(folder: Path) -> None:
    """Go on only once another case is here too."""
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    limit = time.monotonic() + 45
    while len(list(folder.iterdir())) < 2:
        if time.monotonic() > limit:
            raise TimeoutError("alone")
        time.sleep(0.02)


def caches() -> tuple[str, ...]:
    """How each kernel cache is found; leaves a kernel in it."""
    seen = []
    for name in CACHES:
        folder = Path(os.environ[name]) if name in os.environ else None
        if folder is None:
            seen.append(f"{name} not set")
            continue
        others = stat.S_IMODE(folder.parent.stat().st_mode) & 0o077
        owned = folder.parent.stat().st_uid == os.getuid()
        held = len(list(folder.iterdir())) if folder.exists() else 0
        folder.mkdir(exist_ok=True)
        (folder / "kernel").touch()
        seen.append(f"{name} open to others {others:o}, mine {owned}, {held} kernels")
        seen.append(f"in {folder}")
    return (*seen, f"fresh {FRESH in os.environ}")


def prove(how: str, out: Path) -> None:
    if how == "crash":
        raise RuntimeError("the kernel went wrong")
    if how == "quiet_exit":
        sys.exit(3)
    if how == "segfault_in_a_kernel":
        print("::progress 0.1 kernel moe_down against its eager twin", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "refused_then_segfault":
        check_log.append(check_log.beside(out), (*parity(1.0).checks, *parity(3.0).checks))
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(os.environ["STAND_IN_PIDS"]).write_text(json.dumps([os.getpid(), child.pid]))
        time.sleep(60)
    if how == "together":
        meet(Path(os.environ["STAND_IN_PIDS"]).with_name("meeting"))
    if how == "garbage":
        out.write_text('{"status": "passed", "series": 3}')
        return
    if how == "out_of_memory":
        error = Failure(kind="OutOfMemoryError", message="tried to allocate 9 GiB")
        PartialRecord(status="out_of_memory", error=error).write(out)
        sys.exit(1)
    if how == "unproven":
        PartialRecord(status="passed").write(out)
        return
    seen = tuple(f"{name}={os.environ.get(name)}" for name in ("TRITON_INTERPRET", "CUDA_VISIBLE_DEVICES"))
    seen += tuple(f"{name}={value}" for name, value in os.environ.items() if name in ("HUB_TOKEN", "OMP_NUM_THREADS"))
    seen += caches() if how == "caches" else ()
    note = ReceiptNote(optimization="rotary", touched=("layers.0",), notes=seen)
    wrong = how == "wrong"
    print("::progress 0.5 half way", flush=True)
    PartialRecord(status="failed" if wrong else "passed", parity=parity(3.0 if wrong else 1.0), receipts=(note,)).write(
        out
    )
    if how == "late_crash":
        os.abort()


def measure(how: str, process: int, out: Path, more: list[str]) -> None:
    if how == "crash_while_timing" and process == 1:
        raise MemoryError
    series = Series(arm="candidate", phase="decode", process=process, samples_ms=(1.0,), blocks=(0,))
    seen = f"TRITON_INTERPRET={os.environ.get('TRITON_INTERPRET')}"
    checked = parity(3.0) if how == "wrong_after_timing" else parity(1.5)
    status = "passed" if checked.passed else "failed"
    PartialRecord(status=status, parity=checked, series=(series,), timing_notes=(seen, *more)).write(out)


if __name__ == "__main__":
    case, part, left = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], Path(sys.argv[3])
    hang_once = case["seed"] == HANG_ONCE_SEED and not Path(os.environ["STAND_IN_PIDS"]).exists()
    manner = "hang" if hang_once else "wrong" if case["seed"] == WRONG_SEED else case["optimizations"][0]
    if part == "prove":
        prove(manner, left)
    else:
        assert sys.argv[4] == "--process"
        measure(manner, int(sys.argv[5]), left, sys.argv[6:])
