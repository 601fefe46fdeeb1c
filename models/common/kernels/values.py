"""Values and layouts for input menus: what a kernel meets in the field, made on purpose.

Values take `(shape, dtype, device, generator)` and are drawn in float32, then rounded once to `dtype`; layouts take a
tensor and return one with the same values, shape and dtype laid out differently. All are reproducible from the
generator, which must live on `device`.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

FAR = 1 << 31
"""Elements that no offset of 32 bits reaches past."""
NO_RESERVE = 0x4000
"""Linux's MAP_NORESERVE: nothing is set aside for pages that are never touched."""
OUTLIER_EVERY = 64
OUTLIER_SCALE = 100.0


def normal(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    scale: float = 1.0,
    offset: float = 0.0,
) -> Tensor:
    """Gaussian values of standard deviation `scale` around `offset`. `scale=1e-3` shows a missing or misplaced
    epsilon, `offset=4` a lost mean or a cancellation."""
    drawn = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
    return (drawn * scale + offset).to(dtype)


def outliers(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    scale: float = 1.0,
) -> Tensor:
    """Gaussian values with one channel (last axis) in 64, and at least one, a hundred times larger."""
    values = normal(shape, torch.float32, device, generator, scale)
    channels = shape[-1]
    chosen = torch.randperm(channels, generator=generator, device=device)[: max(1, channels // OUTLIER_EVERY)]
    values[..., chosen] *= OUTLIER_SCALE
    return values.to(dtype)


def length(low: int, high: int, device: torch.device, generator: torch.Generator) -> int:
    """A size from `low` to `high`, so that no kernel can be right on the shapes of a menu alone."""
    return int(torch.randint(low, high + 1, (1,), generator=generator, device=device))


def constant(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, value: float) -> Tensor:
    """Every element `value`: all softmax inputs tie, every variance is zero."""
    return torch.full(shape, value, dtype=dtype, device=device)


def ties(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Tensor:
    """Few distinct values (-1, -0.5, 0, 0.5, 1), so that every row of more than five elements holds equal ones."""
    return (torch.randint(-2, 3, shape, generator=generator, device=device) / 2).to(dtype)


def near_max(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator, share: float = 0.9
) -> Tensor:
    """Magnitudes from `share / 2` to `share` of the largest finite value of `dtype`, signs at random: a sum or square
    in the same type overflows."""
    magnitude = torch.rand(shape, generator=generator, device=device, dtype=torch.float64) * (share / 2) + share / 2
    sign = torch.randint(0, 2, shape, generator=generator, device=device) * 2 - 1
    return (magnitude * sign * torch.finfo(dtype).max).to(dtype)


def subnormal(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Tensor:
    """Magnitudes below the smallest normal number of `dtype`: flushing them to zero shows."""
    drawn = torch.rand(shape, generator=generator, device=device, dtype=torch.float64) * 2 - 1
    return (drawn * torch.finfo(dtype).tiny).to(dtype)


def canceling(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    axis: int = -1,
    over: int = 0,
) -> Tensor:
    """Magnitudes near 1 whose signs cancel along `axis`, whose length is a multiple of 16: beside weights near 1, what
    is left of a sum over it is a hundredth of its parts. Signs turn after half of the axis, a quarter, an eighth or a
    sixteenth, from one index of the axis `over` to the next: whatever share of the sum a program takes, it is large
    somewhere."""
    runs = torch.arange(shape[over], device=device)[:, None] % 4
    length = torch.clamp(shape[axis] // 2 ** (1 + runs), min=1)
    signs = 1 - 2 * (torch.arange(shape[axis], device=device) // length % 2)
    magnitudes = normal(shape, torch.float32, device, generator, scale=0.1, offset=1.0)
    return (magnitudes.movedim((over, axis), (-2, -1)) * signs).movedim((-2, -1), (over, axis)).to(dtype).contiguous()


def with_nan_row(tensor: Tensor, row: int) -> Tensor:
    """A copy whose row `row` (first axis) is all NaN; every other row of a row-wise result must stay clean."""
    poisoned = tensor.clone(memory_format=torch.contiguous_format)
    poisoned[row] = float("nan")
    return poisoned


def misaligned(tensor: Tensor) -> Tensor:
    """The same values, contiguous, beginning one element past an aligned address."""
    buffer = tensor.new_zeros(tensor.numel() + 1)
    return buffer[1:].view(tensor.shape).copy_(tensor)


def transposed(tensor: Tensor) -> Tensor:
    """The same values with the last two axes swapped in memory: the last axis is no longer the unit-stride one."""
    return tensor.mT.contiguous().mT


def swapped(tensor: Tensor, one: int, other: int) -> Tensor:
    """The same values with two axes swapped in memory."""
    return tensor.transpose(one, other).contiguous().transpose(one, other)


def past_int32(tensor: Tensor) -> Tensor:
    """The same values with entries of the first axis so far apart that the last lies FAR elements behind the first.
    Between them, and as far in front of them, lies what an offset that wraps around reads, or where it writes: NaN, and
    on a CPU zeros that take no memory."""
    apart = -(-FAR // (tensor.shape[0] - 1) // 64) * 64
    elements = 2 * FAR + 64 * tensor.shape[0] + tensor.numel()
    if tensor.device.type == "cpu":
        untouched = mmap.mmap(-1, elements * tensor.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
        buffer = torch.frombuffer(untouched, dtype=tensor.dtype)
    else:
        buffer = tensor.new_full((elements,), float("nan"))
    return buffer[FAR:].as_strided(tensor.shape, (apart, *tensor[0].contiguous().stride())).copy_(tensor)


def sliced(tensor: Tensor) -> Tensor:
    """The same values as the first columns of a wider buffer: rows are unit-stride inside and not packed."""
    buffer = tensor.new_zeros((*tensor.shape[:-1], tensor.shape[-1] + 8))
    return buffer[..., : tensor.shape[-1]].copy_(tensor)


def expanded(tensor: Tensor, copies: int) -> Tensor:
    """`tensor` repeated along a new first axis of stride zero: one stored copy, `copies` visible ones."""
    return tensor.unsqueeze(0).expand(copies, *tensor.shape)
