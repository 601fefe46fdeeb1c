"""Candidates of a product's launch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.common.linear.eager import SplitQKV, gated_block, linear
from models.common.linear.gemv import GemvShape, gemv, prefetch_fits
from models.common.linear.gemv_cases import GEMV
from models.common.linear.tuning import Product, matrix_shapes, product_tunings, products, vector_shapes

META = torch.device("meta")
PRODUCTS = (Product(6144, 2560), Product(9728, 2560, paired=True), Product(151936, 2560))


@pytest.mark.parametrize("work", PRODUCTS, ids=lambda work: f"{work.kernel.name} {work.outputs}")
def test_one_row_is_never_split_and_many_rows_fit_into_shared_memory(work: Product) -> None:
    assert all(shape.split_k == 1 for shape in vector_shapes(work, 2))
    assert 15 <= len(list(vector_shapes(work, 2))) <= 64
    assert 15 <= len(list(matrix_shapes(work, 8, 2))) <= 64


def model(hidden: int = 512, vocab: int = 8192) -> nn.Module:
    """Two layers with 4 query heads over 2 of 128 channels, a block of twice the width, and a head; something else,
    too, that no decode step runs."""

    def projection(outputs: int) -> nn.Linear:
        return linear(hidden, outputs, True, torch.bfloat16, META)

    layers = [
        nn.ModuleDict(
            {
                "qkv": SplitQKV(projection(512), projection(256), projection(256), 128),
                "o_proj": linear(512, hidden, False, torch.bfloat16, META),
                "mlp": gated_block(hidden, 2 * hidden, torch.bfloat16, META),
            }
        )
        for _ in range(2)
    ]
    head = linear(hidden, vocab, False, torch.bfloat16, META)
    return nn.ModuleDict({"layers": nn.ModuleList(layers), "lm_head": head, "tower": projection(64)})


def test_a_step_takes_every_product_of_its_layers_and_the_head() -> None:
    assert products(model()) == {
        Product(1024, 512, biased=True): 2,
        Product(512, 512): 2,
        Product(1024, 512, paired=True): 2,
        Product(512, 1024): 2,
        Product(8192, 512): 1,
    }


def test_the_largest_share_comes_first_with_one_row_and_with_several() -> None:
    found = list(product_tunings(model(), torch.bfloat16, 16))
    assert [tuning.sizes["rows"] for tuning in found] == [1, (2, 16)] * 5
    assert (found[0].sizes["outputs"], found[-1].sizes["outputs"]) == (8192, 512)
    assert len(list(product_tunings(model(), torch.bfloat16, 1))) == 5


def test_early_starts_never_prefetch_past_the_rows() -> None:
    for tuning in product_tunings(model(), torch.bfloat16, 16):
        n, k = tuning.sizes["outputs"], tuning.sizes["sum"]
        for launch in tuning.launches:
            early = tuning.refined(launch)
            assert any(each["pdl"] for each in early)
            assert all(prefetch_fits(GemvShape(**each), n, k) for each in early)


def test_the_inputs_are_those_of_the_kernel_with_its_bias() -> None:
    tuning = next(t for t in product_tunings(model(), torch.float32, 16) if t.kernel is GEMV and t.sizes["sum"] == 512)
    case = tuning.case(torch.float32, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert case.inputs["x"].shape == (1, 512)
    with pytest.raises(ValueError, match="not split"):
        gemv(**case.inputs, shape=GemvShape(16, 64, 4, 2, split_k=2))
