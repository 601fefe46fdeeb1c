"""Weights read from a checkpoint as Hugging Face writes it, experts one by one, against the same ones in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from harness.build import builder
from harness.build.checkpoint import load
from harness.build.dtypes import dtype_name
from harness.errors import ConfigError, WeightsError
from harness.parity.tolerance.bitwise import bits
from harness.records.checks import Check
from harness.spec.model import ModelSpec
from harness.spec.runtime import module_of

SIZE = "tiny"
"""What is read how follows from a model's code, whatever its size."""
FILE_BYTES = 1 << 20
"""Of one file at most: a layer lies in several, and an index tells which, as in what is published."""
CPU = torch.device("cpu")


@torch.no_grad()
def check_reading(spec: ModelSpec, seed: int, dtype: torch.dtype) -> Check:
    """Of random weights of the tiny variant in `dtype`, written to disk: how many tensors of the model differ in a bit
    when they are read back whole, and when they stay in their files until they are cut for ranks."""
    source = builder.Source.of(spec, SIZE, seed, None)
    plain = builder.reference(spec, source, dtype, CPU)
    right = _held(spec, source, plain, dtype, sliced=False)
    with _saved(plain) as directory:
        try:
            wrong = list(_misread(spec, directory, plain, right, dtype))
        except (WeightsError, ConfigError) as error:
            wrong = [f"refused: {error}"]
    return Check(
        level="path",
        subject="weights read from a checkpoint",
        name=f"{len(right)} tensors {dtype_name(dtype)}, whole and in slices",
        rule="exact",
        error=len(wrong),
        noise=0,
        limit=0,
        where=wrong[0] if wrong else "",
    )


def _misread(
    spec: ModelSpec, directory: Path, plain: nn.Module, right: dict[str, Tensor], dtype: torch.dtype
) -> Iterator[str]:
    """The tensors that differ from the `right` ones, by our names. Raises as `weights=DIRECTORY` does."""
    builder.check_weights(spec, directory)
    source = builder.Source.of(spec, SIZE, 0, str(directory))
    for sliced in (False, True):
        read = _held(spec, source, plain, dtype, sliced)
        wrong = (name for name, want in right.items() if not torch.equal(bits(read[name]), bits(want)))
        yield from (f"{name}, read {'in slices' if sliced else 'whole'}" for name in wrong)


def _held(
    spec: ModelSpec, source: builder.Source, plain: nn.Module, dtype: torch.dtype, sliced: bool
) -> dict[str, Tensor]:
    """Every parameter and persistent buffer of the eager build by our name for it."""
    model = module_of(spec.build(source.config, dtype, CPU))
    load(model, builder.weights(spec, source, plain, CPU, sliced), spec.rename)
    return model.state_dict()


@contextmanager
def _saved(plain: nn.Module) -> Iterator[Path]:
    """A directory, while it is open, with what Hugging Face makes of a model, and nothing said on the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with TemporaryDirectory(prefix="inference-pio-") as directory:
            saves: Any = plain
            saves.save_pretrained(directory, max_shard_size=FILE_BYTES)
            yield Path(directory)
    finally:
        if shown:
            logging.enable_progress_bar()
