"""Parameters and persistent buffers in, by name: every tensor placed exactly once, or an error that names it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from harness.errors import WeightsError
from harness.spec.shard import Shard, Sliceable, sharded


@dataclass(frozen=True)
class Stored:
    """A tensor of a safetensors file, of which only what is asked for is read."""

    handle: Any

    @property
    def shape(self) -> Sequence[int]:
        return tuple(self.handle.get_shape())

    def __getitem__(self, index: slice | tuple[slice, ...], /) -> Tensor:
        part: Tensor = self.handle[index]
        # On a CPU a part is a view that would keep the whole tensor's memory.
        return part.clone() if part.untyped_storage().nbytes() > part.nbytes else part


PICKLES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}


def load(model: nn.Module, tensors: Iterable[tuple[str, Sliceable]], rename: Callable[[str], str]) -> None:
    """Give `model` the named tensors (Hugging Face names). A tensor that already has the dtype and device of its place
    is shared, not copied; where the parameter carries a shard, only that part is taken. Raises WeightsError on an
    unknown, mis-shaped, repeated or missing tensor."""
    ties = _tied_names(model)
    missing, seen = set(ties), set()
    for source_name, tensor in tensors:
        name = rename(source_name)
        if name not in ties:
            raise WeightsError(f"tensor '{source_name}' has no place in the model (as '{name}')")
        if name in seen:
            raise WeightsError(f"tensor '{source_name}' comes twice: one of them would be lost")
        seen.add(name)
        if name in missing:
            _place(model, ties[name], source_name, tensor)
            missing -= set(ties[name])
    if missing:
        raise WeightsError(f"no tensor for '{min(missing)}' ({len(missing)} missing): it would stay unset")


Stream = Iterable[tuple[str, Tensor]]


def check(
    model: nn.Module, directory: Path, rename: Callable[[str], str], merge: Callable[[Stream], Stream] = iter
) -> None:
    """Raises WeightsError unless the directory's tensors, by name and shape, are those of `model` (which may be on the
    meta device); reads headers only. `merge` is what the stream of tensors goes through first."""
    load(model, merge(_headers(directory)), rename)


def _headers(directory: Path) -> Iterator[tuple[str, Tensor]]:
    for name, path in _locate(directory).items():
        try:
            with safe_open(path, framework="pt") as file:
                yield name, torch.empty(file.get_slice(name).get_shape(), device="meta")
        except SafetensorError as error:
            raise WeightsError(f"{path.name}: not a readable safetensors file ({error})") from None


def _tied_names(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Every name of a parameter or persistent buffer -> all names of the same tensor."""
    groups: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), []).append(name)
    return {name: tuple(group) for group in groups.values() for name in group}


def _place(model: nn.Module, names: tuple[str, ...], source_name: str, tensor: Sliceable) -> None:
    path, _, leaf = names[0].rpartition(".")
    old = getattr(model.get_submodule(path), leaf)
    shard = getattr(old, "shard", None) or Shard.whole(old.shape)
    if shard.shape != tuple(tensor.shape):
        raise WeightsError(
            f"tensor '{source_name}' has shape {list(tensor.shape)}, the model needs {list(shard.shape)}"
        )
    new: Tensor = shard.take(tensor).to(device=old.device, dtype=old.dtype)
    if isinstance(old, nn.Parameter):
        new = sharded(nn.Parameter(new, requires_grad=False), getattr(old, "shard", None))
    for name in names:
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, new)


def read_safetensors(directory: Path, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a Hugging Face checkpoint directory, streamed one at a time. Refuses pickles."""
    for name, path in _locate(directory).items():
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                yield name, file.get_tensor(name)
        except SafetensorError as error:
            raise WeightsError(f"{path.name}: not a readable safetensors file ({error})") from None


def read_slices(directory: Path, device: torch.device) -> Iterator[tuple[str, Stored]]:
    """As read_safetensors, each tensor left in its file until it is sliced, which must be before the next is asked
    for."""
    for name, path in _locate(directory).items():
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                yield name, Stored(file.get_slice(name))
        except SafetensorError as error:
            raise WeightsError(f"{path.name}: not a readable safetensors file ({error})") from None


def _locate(directory: Path) -> dict[str, Path]:
    if not directory.is_dir():
        raise WeightsError(f"weights directory '{directory}' does not exist")
    pickles = sorted(path.name for path in directory.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise WeightsError(f"'{pickles[0]}' may run code when it is read: convert it to safetensors and remove it")
    index = directory / "model.safetensors.index.json"
    if index.exists():
        placed = json.loads(index.read_text())["weight_map"]
        outside = sorted(file for file in set(placed.values()) if Path(file).name != file)
        if outside:
            raise WeightsError(f"the index names '{outside[0]}', which lies outside the directory")
        absent = sorted(file for file in set(placed.values()) if not (directory / file).is_file())
        if absent:
            raise WeightsError(f"the index names '{absent[0]}', which is not there")
        return {name: directory / file for name, file in placed.items()}
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise WeightsError(f"'{directory}' holds no safetensors file")
    return {name: path for path in files for name in _names(path)}


def _names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise WeightsError(f"{path.name}: not a readable safetensors file ({error})") from None


def read_config(directory: Path) -> dict[str, object]:
    """The directory's config.json."""
    path = directory / "config.json"
    if not path.is_file():
        raise WeightsError(f"'{directory}' holds no config.json")
    return dict(json.loads(path.read_text()))
