"""Tensors into a model: each placed once, by its name, in its shape, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.build import checkpoint
from harness.errors import WeightsError

CPU = torch.device("cpu")


class Pair(nn.Module):
    """Two matrices and a buffer; the second matrix is a third name's, too, where they are tied."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2, bias=False)
        self.inner = nn.Sequential(nn.Linear(2, 2, bias=False))
        self.register_buffer("scale", torch.zeros(2, dtype=torch.float64))
        if tied:
            self.last = nn.Linear(2, 2, bias=False)
            self.last.weight = self.inner[0].weight


def right() -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(0)
    shapes = {"first.weight": (2, 3), "inner.0.weight": (2, 2), "scale": (2,)}
    return {name: torch.randn(shape, generator=drawn) for name, shape in shapes.items()}


def same(name: str) -> str:
    return name


def test_every_tensor_lies_where_its_name_says() -> None:
    model, tensors = Pair(), right()
    checkpoint.load(model, ((f"model.{name}", tensor) for name, tensor in tensors.items()), lambda n: n[6:])
    assert model.first.weight.data_ptr() == tensors["first.weight"].data_ptr()
    assert model.inner[0].weight.equal(tensors["inner.0.weight"])
    assert model.scale.equal(tensors["scale"].double())
    assert not model.first.weight.requires_grad


def test_a_tied_tensor_comes_once_and_stands_in_both_places() -> None:
    model, tensors = Pair(tied=True), right()
    checkpoint.load(model, tensors.items(), same)
    assert model.last.weight is model.inner[0].weight
    assert model.last.weight.equal(tensors["inner.0.weight"])


def test_a_tied_tensor_may_come_under_both_names_and_the_first_stands() -> None:
    model, tensors = Pair(tied=True), right()
    checkpoint.load(model, [*tensors.items(), ("last.weight", torch.zeros(2, 2))], same)
    assert model.last.weight.equal(tensors["inner.0.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: [*t.items(), ("first.weight", t["first.weight"])], "'first.weight' comes twice"),
        (lambda t: [*t.items(), ("other", t["scale"])], r"'other' has no place in the model \(as 'other'\)"),
        (lambda t: [(n, x) for n, x in t.items() if n != "scale"], r"no tensor for 'scale' \(1 missing\)"),
        (lambda t: list(t.items())[:1], r"no tensor for 'inner.0.weight' \(2 missing\)"),
        (lambda t: (t | {"scale": torch.zeros(3)}).items(), r"'scale' has shape \[3\], the model needs \[2\]"),
        (lambda t: (t | {"scale": torch.zeros(2, 1)}).items(), r"'scale' has shape \[2, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        checkpoint.load(Pair(), change(right()), same)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two files and their index."""
    tensors = right()
    save_file({"first.weight": tensors["first.weight"]}, tmp_path / "a.safetensors")
    save_file({name: tensors[name] for name in ("inner.0.weight", "scale")}, tmp_path / "b.safetensors")
    return tmp_path


def indexed(directory: Path, **places: str) -> Path:
    files = {"first.weight": "a.safetensors", "inner.0.weight": "b.safetensors", "scale": "b.safetensors"}
    content = json.dumps({"weight_map": files | {name.replace("__", "."): file for name, file in places.items()}})
    (directory / "model.safetensors.index.json").write_text(content)
    return directory


@pytest.mark.parametrize("with_index", [True, False])
def test_a_directory_is_read_whole_in_slices_and_by_its_headers(directory: Path, with_index: bool) -> None:
    if with_index:
        indexed(directory)
    wanted = right()
    read = dict(checkpoint.read_safetensors(directory, CPU))
    assert read.keys() == wanted.keys()
    assert all(read[name].equal(wanted[name]) for name in wanted)
    slices = {name: (part.shape, part[0:1]) for name, part in checkpoint.read_slices(directory, CPU)}
    for name, (shape, part) in slices.items():
        assert shape == tuple(wanted[name].shape)
        assert part.equal(wanted[name][0:1])
        assert part.untyped_storage().nbytes() == part.nbytes
    assert slices.keys() == wanted.keys()
    checkpoint.check(Pair().to("meta"), directory, same)
    with pytest.raises(WeightsError, match=r"'first.weight' has shape \[2, 3\], the model needs \[2, 2\]"):
        checkpoint.check(nn.ModuleDict({"first": nn.Linear(2, 2, bias=False, device="meta")}), directory, same)


def test_what_a_model_renames_and_merges_is_checked_as_it_is_loaded(directory: Path) -> None:
    with pytest.raises(WeightsError, match=r"no tensor for 'scale' \(1 missing\)"):
        checkpoint.check(
            Pair().to("meta"), directory, same, lambda stream: (pair for pair in stream if pair[0] != "scale")
        )
    with pytest.raises(WeightsError, match="has no place in the model"):
        checkpoint.check(Pair().to("meta"), directory, lambda name: f"model.{name}")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("../a.safetensors", "names '../a.safetensors', which lies outside the directory"),
        ("c.safetensors", "names 'c.safetensors', which is not there"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(directory: Path, file: str, message: str) -> None:
    (directory.parent / "a.safetensors").write_bytes((directory / "a.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=message):
        list(checkpoint.read_safetensors(indexed(directory, first__weight=file), CPU))


@pytest.mark.parametrize("suffix", sorted(checkpoint.PICKLES))
def test_a_directory_that_holds_a_pickle_is_refused(directory: Path, suffix: str) -> None:
    (directory / f"weights{suffix}").write_bytes(b"")
    with pytest.raises(WeightsError, match=f"'weights{suffix}' may run code"):
        list(checkpoint.read_safetensors(directory, CPU))


def test_pickles_of_every_common_name_are_known() -> None:
    assert {".bin", ".pt", ".pth", ".pkl", ".ckpt"} == checkpoint.PICKLES


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        list(checkpoint.read_safetensors(tmp_path / "none", CPU))
    with pytest.raises(WeightsError, match="holds no safetensors file"):
        list(checkpoint.read_safetensors(tmp_path, CPU))


@pytest.mark.parametrize("with_index", [True, False])
def test_a_file_that_is_none_is_refused_however_it_is_read(directory: Path, with_index: bool) -> None:
    if with_index:
        indexed(directory)
    (directory / "b.safetensors").write_bytes(b"no header")
    for read in (checkpoint.read_safetensors, checkpoint.read_slices):
        with pytest.raises(WeightsError, match=r"b\.safetensors: not a readable safetensors file"):
            list(read(directory, CPU))
    with pytest.raises(WeightsError, match=r"b\.safetensors: not a readable safetensors file"):
        checkpoint.check(Pair().to("meta"), directory, same)


def test_a_config_is_read_or_missed(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no config\.json"):
        checkpoint.read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"hidden_size": 3}')
    assert checkpoint.read_config(tmp_path) == {"hidden_size": 3}
