"""Launch shapes as data: how they are read, and where they fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.build import registry
from harness.build.registry import MODELS
from harness.errors import ConfigError
from models.common.kernels.launch_shapes import LaunchShapes, Tuned, launch_shapes
from models.common.linear.gemv import GemvShape, prefetch_fits

SHAPES = LaunchShapes(
    device="GPU of the test",
    record="record.json",
    carried_from="another: by hand",
    kernels={"gemv": (Tuned({"rows": 1, "outputs": 8}, {"block_n": 2}), Tuned({"rows": (2, 4)}, {"block_n": 4}))},
)


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({"rows": 1, "outputs": 8}, {"block_n": 2}),
        ({"rows": 1, "outputs": 16}, None),
        ({"rows": 4}, {"block_n": 4}),
        ({"rows": 5}, None),
        ({"rows": 2, "outputs": 8}, None),
    ],
)
def test_a_class_covers_calls_of_its_sizes_and_no_other(sizes: dict[str, int], found: object) -> None:
    assert SHAPES.find("gemv", sizes) == found
    assert SHAPES.find("another", sizes) is None


def test_a_receipt_tells_where_the_shapes_are_from(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU of the test")
    assert SHAPES.note(device) == "launch shapes tuned on GPU of the test, carried over from another: by hand"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "another GPU")
    assert SHAPES.note(device) == (
        "default launch shapes: those at hand were tuned on GPU of the test, not on this device"
    )


@pytest.mark.parametrize("text", [None, "{", "{}", '{"kernels": {"gemv": [{}]}}', '{"kernels": []}'])
def test_what_is_no_table_of_launches_is_refused_with_its_path(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "launch_shapes.json").write_text(text)
    with pytest.raises(ConfigError, match=r"launch_shapes\.json: no launch shapes can be read"):
        launch_shapes(tmp_path)


@pytest.mark.parametrize("model", registry.names())
def test_a_models_shapes_fit_its_products_and_name_their_record(model: str) -> None:
    held = launch_shapes(MODELS / model / "kernels")
    assert (MODELS.parent / held.record).is_file()
    for kernel in ("gemv", "gemv_swiglu"):
        for tuned in held.kernels.get(kernel, ()):
            n, k = tuned.sizes["outputs"], tuned.sizes["sum"]
            assert isinstance(n, int)
            assert isinstance(k, int)
            assert prefetch_fits(GemvShape(**tuned.launch), n, k)


@pytest.mark.parametrize("model", registry.names())
def test_only_what_was_measured_on_a_models_own_sizes_is_its_own(model: str) -> None:
    held = json.loads((MODELS / model / "kernels" / "launch_shapes.json").read_text())
    rows = json.loads((MODELS.parent / held["record"]).read_text())["rows"]
    # Records of before December 2026 say `ahead` for what is prefetched.
    renamed = [{{"ahead": "prefetch"}.get(k, k): v for k, v in (row["launch"] or {}).items()} or None for row in rows]
    measured = {json.dumps(each, sort_keys=True) for each in renamed}
    launches = [json.dumps(each["launch"], sort_keys=True) for found in held["kernels"].values() for each in found]
    assert held["carried_from"] is None
    assert {*launches} <= measured
