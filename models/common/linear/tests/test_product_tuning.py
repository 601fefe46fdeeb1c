"""Candidates of a product's launch."""

from __future__ import annotations

import pytest
import torch

from models.common.linear.gemv import GemvShape, gemv, prefetch_fits
from models.common.linear.gemv_cases import GEMV, GEMV_SWIGLU
from models.common.linear.tuning import Product, matrix_shapes, product_tunings, vector_shapes
from models.qwen3_4b_instruct_2507 import SPEC

PRODUCTS = (Product(6144, 2560), Product(9728, 2560, paired=True), Product(151936, 2560))


@pytest.mark.parametrize("work", PRODUCTS, ids=lambda work: f"{work.kernel.name} {work.outputs}")
def test_one_row_is_never_split_and_many_rows_fit_into_shared_memory(work: Product) -> None:
    assert all(shape.split_k == 1 for shape in vector_shapes(work, 2))
    assert 15 <= len(list(vector_shapes(work, 2))) <= 64
    assert 15 <= len(list(matrix_shapes(work, 8, 2))) <= 64


def test_early_starts_never_prefetch_past_the_rows() -> None:
    model = SPEC.build(SPEC.sizes["full"], torch.bfloat16, torch.device("meta"))
    for tuning in product_tunings(model, torch.bfloat16, 16):
        n, k = tuning.sizes["outputs"], tuning.sizes["sum"]
        for launch in tuning.launches:
            early = tuning.refined(launch)
            assert any(each["pdl"] for each in early)
            assert all(prefetch_fits(GemvShape(**each), n, k) for each in early)


def test_the_largest_product_comes_first_and_every_other_has_one_row_and_several() -> None:
    model = SPEC.build(SPEC.sizes["full"], torch.bfloat16, torch.device("meta"))
    found = list(product_tunings(model, torch.bfloat16, 16))
    assert [tuning.sizes["rows"] for tuning in found] == [1, (2, 16)] * 5
    assert found[0].kernel is GEMV_SWIGLU
    assert {(t.sizes["outputs"], t.sizes["sum"]) for t in found} == {
        (6144, 2560),
        (2560, 4096),
        (9728, 2560),
        (2560, 9728),
        (151936, 2560),
    }


def test_the_inputs_are_those_of_the_kernel() -> None:
    model = SPEC.build(SPEC.sizes["tiny"], torch.float32, torch.device("meta"))
    tuning = next(t for t in product_tunings(model, torch.float32, 16) if t.kernel is GEMV)
    case = tuning.case(torch.float32, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert case.inputs["x"].shape == (1, tuning.sizes["sum"])
    with pytest.raises(ValueError, match="not split"):
        gemv(**case.inputs, shape=GemvShape(16, 64, 4, 2, split_k=2))
