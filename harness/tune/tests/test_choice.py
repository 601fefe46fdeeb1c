"""What is chosen of measured launches, and the file that a model reads."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from harness.machine.environment import capture
from harness.tune.choice import Row, chosen, fastest, launch_file, record_file, told
from models.common.kernels.launch_shapes import launch_shapes

SIZES = {"rows": (2, 16), "outputs": 64, "sum": 32, "element_bytes": 2}
SLOW, FAST, BROKEN = {"block_n": 2, "pdl": False}, {"block_n": 4, "pdl": True}, {"block_n": 8, "pdl": False}
ROWS = [
    Row("gemv", SIZES, None, 12.0),
    Row("gemv", SIZES, SLOW, 11.0),
    Row("gemv", SIZES, FAST, 10.0),
    Row("gemv", SIZES, BROKEN, error="OutOfResources: shared memory"),
]


def test_the_fastest_that_ran_is_chosen_for_its_class() -> None:
    assert [row.launch for row in fastest(ROWS, 2)] == [FAST, SLOW]
    assert chosen([ROWS]) == {"gemv": [{"sizes": SIZES, "launch": FAST}]}


def test_nothing_is_chosen_where_the_default_is_the_fastest_or_nothing_ran() -> None:
    assert chosen([[Row("gemv", SIZES, None, 1.0), *ROWS[1:]], [ROWS[3]]]) == {}


def test_a_line_tells_the_fastest_the_default_and_what_failed() -> None:
    assert told(ROWS) == (
        "10.00 us, the default 12.00 us: block_n=4 pdl=True; 1 failed, first: OutOfResources: shared memory"
    )
    assert told([ROWS[0], ROWS[3]]).startswith("12.00 us, the default 12.00 us: the default; 1 failed")
    assert told([ROWS[3]]) == "nothing ran; 1 failed, first: OutOfResources: shared memory"


def test_a_model_reads_what_was_written_with_its_fingerprint(tmp_path: Path) -> None:
    machine = capture(None, []).model_copy(update={"gpu": "GPU of the test", "commit": "abc", "dirty": False})
    (tmp_path / "launch_shapes.json").write_text(launch_file([ROWS], machine, "the/record.json"))
    held = json.loads((tmp_path / "launch_shapes.json").read_text())
    assert held["tuned_on"] == {
        "device": "GPU of the test",
        "torch": machine.packages["torch"],
        "triton": machine.packages["triton"],
        "commit": "abc",
    }
    read = launch_shapes(tmp_path)
    assert (read.device, read.record, read.carried_from) == ("GPU of the test", "the/record.json", None)
    assert read.find("gemv", {"rows": 16, "outputs": 64, "sum": 32, "element_bytes": 2}) == FAST
    assert read.find("gemv", {"rows": 17, "outputs": 64, "sum": 32, "element_bytes": 2}) is None
    assert not read.fit(torch.device("cpu"))


def test_the_record_holds_every_launch_that_was_tried() -> None:
    rows = json.loads(record_file([ROWS], capture(None, []), "a_model"))["rows"]
    assert [row["median_us"] for row in rows] == [12.0, 11.0, 10.0, None]
    assert rows[3]["error"] == "OutOfResources: shared memory"
