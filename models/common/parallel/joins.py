"""What stands where a module was cut over the ranks: it makes one answer of the ranks' parts."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.common.linear.eager import sums


def sum_parts(parts: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """parts [world, M, N] -> {"out": [world, M, N] in `dtype`, or wider where they are}: on every rank their sum, in
    float32 and rounded once."""
    upcast = torch.promote_types(parts.dtype, torch.float32)
    total = parts.to(upcast).sum(0)
    return {"out": total.to(upcast if upcast == torch.float64 else dtype).repeat(len(parts), 1, 1)}


class AllReduce(nn.Module):
    """The sum over the ranks of what each gives, by the library of their backend."""

    def forward(self, part: Tensor, dtype: torch.dtype) -> Tensor:
        """part [..., N] -> [..., N] in `dtype`, the same on every rank. `part` may be overwritten."""
        part = part.contiguous()
        dist.all_reduce(part)
        return part.to(dtype)


class RowParallel(nn.Module):
    """The sum over the ranks of what a module gives each. A bias is added once, after it."""

    def __init__(self, partial: nn.Module) -> None:
        super().__init__()
        self.partial, self.all_reduce = partial, AllReduce()
        self.bias = getattr(partial, "bias", None)
        if self.bias is not None:
            partial.register_parameter("bias", None)

    def forward(self, *inputs: Tensor) -> Tensor:
        part, dtype = self.parts(*inputs), inputs[0].dtype
        if self.bias is None:
            return self.all_reduce(part, dtype)
        return (self.all_reduce(part, part.dtype) + self.bias).to(dtype)

    def parts(self, *inputs: Tensor) -> Tensor:
        """What this rank adds."""
        out: Tensor = self.partial(*inputs)
        return out


class SummedProduct(RowParallel):
    """Of a row-cut projection. The ranks' parts are added in float32 and rounded once, as one product would be: where
    large parts cancel, the rounding of each would be most of what is left."""

    def parts(self, *inputs: Tensor) -> Tensor:
        """Raises TypeError where the projection rounds what it was asked not to."""
        (x,), partial = inputs, self.partial
        out: Tensor = sums(x, partial.weight) if isinstance(partial, nn.Linear) else partial(x, rounded=False)
        if out.dtype != torch.promote_types(out.dtype, torch.float32):
            raise TypeError(f"{type(partial).__name__} rounds a rank's part to {out.dtype} before it is added")
        return out


class GatheredColumn(nn.Module):
    """The outputs of all ranks' column-cut projections, side by side."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        part = self.part(x).contiguous()
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part)
        return torch.cat(parts, dim=-1)


class VocabularyEmbedding(nn.Module):
    """Rows of a table of which each rank holds some."""

    def __init__(self, part: nn.Embedding) -> None:
        super().__init__()
        self.part, self.all_reduce = part, AllReduce()
        self.first = vars(part.weight)["shard"].ranges[0].start

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T] -> [B, T, H]."""
        local = tokens - self.first
        absent = (local < 0) | (local >= self.part.weight.shape[0])
        out = self.part(local.masked_fill(absent, 0)).masked_fill_(absent.unsqueeze(-1), 0)
        return self.all_reduce(out, out.dtype)
