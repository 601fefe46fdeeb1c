"""Run by the tests in a process with Triton's interpreter: skinny modules beside what they replace. Prints JSON:
the largest error of each in units of the largest output, and whether it is bit-equal."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.common.linear.eager import PackedLinear, linear, sums
from models.common.linear.skinny import SkinnyGated, SkinnyLinear, SkinnyPacked, gemv_workspace
from models.common.mlp.eager import Gate

HIDDEN, WIDTH, ROWS = 64, 48, 4


def made(out: int, bias: bool) -> nn.Linear:
    layer = linear(HIDDEN, out, bias, torch.float32, torch.device("cpu"))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=HIDDEN**-0.5)
    return layer


def compare(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> dict[str, object]:
    pairs = list(zip(ours, theirs, strict=True))
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    return {"error": error, "equal": all(torch.equal(a, b) for a, b in pairs), "shape": [list(a.shape) for a in ours]}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plain, packed = made(WIDTH, True), PackedLinear([made(32, False), made(16, False)])
    gates = PackedLinear([made(WIDTH, False), made(WIDTH, False)])
    workspace = gemv_workspace([plain.weight, packed.weight, gates.weight], ROWS)
    half = made(WIDTH, True).half()
    halved = SkinnyLinear(half, ROWS, workspace)
    skinny = SkinnyPacked(packed, ROWS, workspace)
    gated = SkinnyGated(gates, Gate(), ROWS, workspace)
    said: dict[str, object] = {"shared": SkinnyLinear(plain, ROWS, workspace).weight is plain.weight}
    for name, shape in {"one": (1, 1, HIDDEN), "few": (2, 2, HIDDEN), "many": (1, 5, HIDDEN)}.items():
        x = torch.randn(shape)
        said[f"linear {name}"] = compare([SkinnyLinear(plain, ROWS, workspace)(x)], [plain(x)])
        said[f"packed {name}"] = compare(skinny(x), packed(x))
        said[f"gated {name}"] = compare([gated(x)], [Gate()(*gates(x))])
        said[f"unrounded {name}"] = compare([halved(x.half(), rounded=False)], [sums(x.half(), half.weight, half.bias)])
    print(json.dumps(said))


if __name__ == "__main__":
    main()
