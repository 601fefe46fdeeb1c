"""A Triton kernel of your own beside the eager code that it must agree with: python -m harness check-kernel FILE."""

import torch
import triton
import triton.language as tl

from harness.spec.kernel import Cost, Kernel, OpCase

BLOCK = 256


@triton.jit
def relu_squared(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.maximum(tl.load(x_ptr + at, mask=at < n, other=0.0).to(tl.float32), 0.0)
    tl.store(y_ptr + at, x * x, mask=at < n)


def launch(x):
    x = x.contiguous()
    y = torch.empty_like(x)
    relu_squared[(triton.cdiv(x.numel(), BLOCK),)](x, y, x.numel(), BLOCK=BLOCK)
    return {"y": y}


def eager(x):
    return {"y": x.relu().square()}


def cases(dtype, device, generator):
    drawn = torch.randint(2, 300, (2,), generator=generator, device=device).tolist()
    for rows, columns in ((1, 1), (1, 256), (7, 257), drawn):
        x = torch.randn(rows, columns, generator=generator, device=device).to(dtype)
        yield OpCase(f"{rows}x{columns}", {"x": x})
    yield OpCase("transposed", {"x": torch.randn(33, 320, generator=generator, device=device).to(dtype).t()})


def cost(x):
    return Cost(bytes=2 * x.numel() * x.element_size(), flops=2 * x.numel())


KERNEL = Kernel("relu_squared", launch, eager, cases, cost, compilations=lambda dtype: ())
