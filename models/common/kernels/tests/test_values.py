from __future__ import annotations

import pytest
import torch

from models.common.kernels import values

CPU = torch.device("cpu")
SHAPE = (5, 192)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator(CPU).manual_seed(seed)


@pytest.mark.parametrize("maker", [values.normal, values.outliers, values.ties, values.near_max, values.subnormal])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_makers_are_reproducible_finite_and_typed(maker, dtype):
    first, again, other = (maker(SHAPE, dtype, CPU, seeded(seed)) for seed in (0, 0, 1))
    assert first.shape == SHAPE
    assert first.dtype == dtype
    assert torch.isfinite(first).all()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_scale_and_offset_move_the_distribution():
    values_ = values.normal((4096,), torch.float32, CPU, seeded(), scale=1e-3, offset=4.0)
    assert abs(values_.mean().item() - 4.0) < 1e-4
    assert 5e-4 < values_.std().item() < 2e-3


def test_one_channel_in_sixty_four_is_an_outlier():
    spread = values.outliers(SHAPE, torch.float32, CPU, seeded()).abs().amax(0)
    assert (spread > 20).sum() == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extremes_touch_the_edge_of_the_type(dtype):
    info = torch.finfo(dtype)
    large, small = values.near_max(SHAPE, dtype, CPU, seeded()), values.subnormal(SHAPE, dtype, CPU, seeded())
    assert large.abs().min() > 0.4 * info.max
    assert torch.isinf(large * 4).all()
    assert small.abs().max() <= info.tiny
    assert small.count_nonzero() > 0.9 * small.numel()


def test_a_nan_row_poisons_only_its_row_and_not_the_source():
    source = values.normal(SHAPE, torch.float32, CPU, seeded())
    poisoned = values.with_nan_row(source, 2)
    assert poisoned.isnan().all(1).tolist() == [False, False, True, False, False]
    assert not source.isnan().any()


@pytest.mark.parametrize("layout", [values.misaligned, values.transposed, values.sliced])
def test_layouts_keep_the_values(layout):
    source = values.normal(SHAPE, torch.float16, CPU, seeded())
    assert torch.equal(layout(source), source)


def test_layouts_differ_from_a_packed_tensor_in_the_way_they_name():
    source = values.normal(SHAPE, torch.float16, CPU, seeded())
    assert values.misaligned(source).data_ptr() % 16 == 2
    assert values.misaligned(source).is_contiguous()
    assert values.transposed(source).stride() == (1, 5)
    assert values.sliced(source).stride() == (200, 1)
    assert values.expanded(source, 3).stride() == (0, 192, 1)
