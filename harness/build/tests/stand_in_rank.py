"""A rank that ends as its case file says: a JSON list with a word for each rank. Run as a real process by the tests."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from harness.records.checks import Check, Parity
from harness.records.partial_record import PartialRecord
from harness.records.record import Failure


def end(how: str, out: Path) -> None:
    if how == "waits":
        Path(os.environ["STAND_IN_PIDS"]).write_text(str(os.getpid()))
        time.sleep(60)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "quiet_exit":
        sys.exit(3)
    if how == "last_words":
        sys.exit("no device left")
    if how == "raises":
        PartialRecord(status="crashed", error=Failure(kind="RuntimeError", message="the heads went wrong")).write(out)
        return
    if how == "partner_gone":
        while not any(out.parent.glob("rank-*.json")):
            time.sleep(0.01)
        time.sleep(0.05)
        PartialRecord(status="crashed", error=Failure(kind="RuntimeError", message="connection closed by peer")).write(
            out
        )
        return
    wrong = 3.0 if how == "wrong" else 1.0
    check = Check(level="op", subject=out.stem, name="out", rule="max", error=wrong, noise=1.0, limit=2.0)
    parity = Parity(checks=(check,))
    PartialRecord(status="passed" if parity.passed else "failed", parity=parity).write(out)
    if how == "aborts":
        print("the driver is gone", file=sys.stderr, flush=True)
        os.abort()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("case", "part", "out"):
        parser.add_argument(name, type=Path)
    for name in ("--rank", "--world"):
        parser.add_argument(name, type=int)
    parser.add_argument("--meeting")
    options = parser.parse_args()
    end(json.loads(options.case.read_text())[options.rank], options.out)
