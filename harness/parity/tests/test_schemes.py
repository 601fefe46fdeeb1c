"""Rounding schemes on hard matrices: every one that a model offers keeps its promise, and none of its faults does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.build import registry
from harness.build.quantized_reference import schemes
from harness.faults.scheme_faults import judge_scheme
from harness.parity.levels.quantization_schemes import CHANNELS, check_scheme, hard_matrices
from harness.spec.optimization import Scheme
from models.common.quantization.schemes import FP8, INT4, INT8

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OFFERED = {"linear_int8": {"int8"}, "linear_fp8": {"fp8"}, "linear_int4": {"int4", "int8"}}
"""The optimizations that round, and what to: the head keeps eight bits."""
SCHEMES = pytest.mark.parametrize("scheme", [INT8, FP8, INT4], ids=lambda scheme: scheme.name)


def test_every_scheme_that_a_model_offers_is_found() -> None:
    for model in registry.names():
        spec = registry.load(model)
        built = spec.build(spec.sizes["tiny"], torch.float32, torch.device("meta"))
        names = [name for name, _ in built.named_parameters(remove_duplicate=False)]
        found = {name: {s.name for s in schemes(spec, names, (name, "kv_cache"))} for name in spec.menu.names()}
        assert {name: held for name, held in found.items() if held} == OFFERED, model


@SCHEMES
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_weight_of_a_hard_matrix_moves_farther_than_promised(scheme: Scheme, dtype: torch.dtype) -> None:
    check = check_scheme(scheme, dtype, CPU)
    assert 0.4 < check.error < 1.0001, check.where


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_matrices_are_hard_and_always_the_same(dtype: torch.dtype) -> None:
    found = dict(hard_matrices(dtype, CPU))
    again = dict(hard_matrices(dtype, CPU))
    assert all(torch.equal(again[name], x) and bool(x.isfinite().all()) for name, x in found.items())
    assert CHANNELS % 128 == 1
    assert all(x.dtype == dtype and x.shape[1] == CHANNELS for x in found.values())
    assert bool((found["every weight positive"] > 0).all())
    assert bool((found["every weight negative"] < 0).all())
    for name in ("subnormal", "smallest numbers"):
        assert 0 < float(found[name].abs().max()) <= torch.finfo(dtype).smallest_normal


@SCHEMES
def test_every_fault_of_a_scheme_is_seen(scheme: Scheme) -> None:
    outcomes = list(judge_scheme(scheme, (torch.float32, torch.float16), CPU))
    assert len(outcomes) == len(scheme.mutants) >= 2
    assert [(item.name, item.end) for item in outcomes if item.end != "killed"] == []
    assert {item.subject for item in outcomes} == {f"rounding to {scheme.name}"}


def test_a_weight_that_is_no_number_any_more_is_refused() -> None:
    def lost(held: object, k: int, dtype: torch.dtype) -> Tensor:
        return INT8.dequantize(held, k, dtype) / 0 * 0  # type: ignore[arg-type]

    assert not check_scheme(replace(INT8, dequantize=lost), torch.float32, CPU).passed
