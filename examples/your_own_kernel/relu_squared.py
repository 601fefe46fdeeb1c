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
    y = torch.empty_like(x)
    relu_squared[(triton.cdiv(x.numel(), BLOCK),)](x, y, x.numel(), BLOCK=BLOCK)
    return {"y": y}


def eager(x):
    return {"y": x.relu().square()}


def cases(dtype, device, generator):
    for shape in ((1, 1), (1, 256), (7, 257), (33, 320)):
        yield OpCase(f"{shape[0]}x{shape[1]}", {"x": torch.randn(shape, generator=generator, device=device).to(dtype)})


def cost(x):
    return Cost(bytes=2 * x.numel() * x.element_size(), flops=2 * x.numel())


KERNEL = Kernel("relu_squared", launch, eager, cases, cost, compilations=lambda dtype: ())
