"""What a rank adds to a sum is not rounded before it is added."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.common.parallel.joins import SummedProduct


class Rounding(nn.Module):
    def forward(self, x: Tensor, rounded: bool = True) -> Tensor:
        return x


def test_a_part_that_cancels_keeps_what_is_left_of_it() -> None:
    first, second = (nn.Linear(4, 1, bias=False, dtype=torch.float16) for _ in range(2))
    first.weight.data.fill_(1000.0)
    second.weight.data.fill_(-1000.0)
    one, other = torch.full((1, 4), 1.0, dtype=torch.float16), torch.tensor([[1.0, 1.0, 1.0, 0.9995]]).half()
    total = SummedProduct(first).parts(one) + SummedProduct(second).parts(other)
    assert total.item() == pytest.approx(1000 * (1 - other[0, 3].item()), rel=1e-6)


def test_a_projection_that_rounds_its_part_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Rounding rounds a rank's part to torch\.float16 before it is added"):
        SummedProduct(Rounding()).parts(torch.ones(1, 4, dtype=torch.float16))
