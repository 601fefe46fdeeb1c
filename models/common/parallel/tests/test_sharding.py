"""A plan cuts every parameter where it says, reads no more than that, and refuses what cannot be shared out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.build.checkpoint import load, read_slices
from harness.errors import ConfigError, WeightsError
from harness.spec.optimization import Target
from models.common.linear.eager import PackedLinear, linear
from models.common.moe.expert_weights import merged
from models.common.parallel.tensor_parallel import (
    Partition,
    Placement,
    Plan,
    SharedPartition,
    column,
    experts,
    gathered,
    narrow,
    row,
)

CPU, META = torch.device("cpu"), torch.device("meta")


class Block(nn.Module):
    """q [12, 8] and k [4, 8] of heads of 2, a bank of 3 experts, and a row-cut projection back."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.q, self.k = (linear(8, size, True, torch.float32, device) for size in (12, 4))
        self.o = linear(12, 8, False, torch.float32, device)
        self.bank = nn.Module()
        self.bank.gate_up_proj = nn.Parameter(torch.empty(3, 16, 4, device=device))
        self.bank.down_proj = nn.Parameter(torch.empty(3, 4, 8, device=device))
        self.norm = nn.Parameter(torch.empty(8, device=device))


HEADS, KV_HEADS, CHANNELS = Partition("query heads", 6), SharedPartition("key-value heads", 2), Partition("channels", 8)
PLAN = Plan(KV_HEADS, {"q": column(HEADS), "k": column(KV_HEADS), "o": row(HEADS), "bank": experts(CHANNELS)})


def tensors() -> dict[str, Tensor]:
    shapes = {name: parameter.shape for name, parameter in Block(META).named_parameters()}
    return {name: torch.arange(shape.numel()).view(shape).float() for name, shape in shapes.items()}


def cut(rank: int, world: int, plan: Plan = PLAN) -> Block:
    block = Block(META)
    narrow(block, plan, Target(CPU, torch.float32, "none", rank, world))
    return block


def loaded(rank: int, world: int) -> dict[str, Tensor]:
    block = cut(rank, world)
    load(block, tensors().items(), lambda name: name)
    return dict(block.named_parameters())


def test_two_ranks_hold_every_row_and_column_between_them() -> None:
    whole, first, second = tensors(), loaded(0, 2), loaded(1, 2)
    for name in ("q.weight", "q.bias", "k.weight", "k.bias"):
        assert torch.equal(torch.cat((first[name], second[name])), whole[name])
    assert torch.equal(torch.cat((first["o.weight"], second["o.weight"]), 1), whole["o.weight"])
    assert torch.equal(torch.cat((first["bank.down_proj"], second["bank.down_proj"]), 2), whole["bank.down_proj"])
    assert torch.equal(first["norm"], whole["norm"])


def test_gate_and_up_rows_are_cut_each_by_itself() -> None:
    gate, up = tensors()["bank.gate_up_proj"].chunk(2, 1)
    assert torch.equal(loaded(1, 2)["bank.gate_up_proj"], torch.cat((gate[:, 4:], up[:, 4:]), 1))


def test_fewer_key_value_heads_than_ranks_are_kept_by_several() -> None:
    whole = tensors()["k.weight"]
    plan = Plan(KV_HEADS, {"k": column(KV_HEADS)})
    for rank in range(4):
        block = cut(rank, 4, plan)
        assert block.k.weight.shard.take(whole).tolist() == whole[2 * (rank // 2) :][:2].tolist()


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (3, "2 key-value heads and 8 channels cannot be divided evenly among 3 ranks"),
        (4, "6 query heads cannot be divided evenly among 4 ranks"),
        (5, "2 key-value heads and 6 query heads and 8 channels cannot be divided evenly among 5 ranks"),
    ],
)
def test_uneven_shares_are_refused_with_their_numbers(world: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        cut(0, world)


def test_pieces_that_a_parameter_does_not_hold_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'weight' \(12, 8\) holds no 10 channels"):
        cut(0, 2, Plan(KV_HEADS, {"q": column(Partition("channels", 10))}))


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'layers\.\*\.q' fits no parameter"):
        cut(0, 2, Plan(KV_HEADS, {"q": column(HEADS), "layers.*.q": column(HEADS)}))


def test_a_tensor_is_checked_against_the_whole_shape() -> None:
    wrong = tensors() | {"q.weight": torch.zeros(6, 8)}
    with pytest.raises(WeightsError, match=r"q\.weight.*\[6, 8\].*\[12, 8\]"):
        load(cut(0, 2), wrong.items(), lambda name: name)


def test_cut_projections_pack_like_whole_ones() -> None:
    block = cut(1, 2)
    load(block, tensors().items(), lambda name: name)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    q, k = PackedLinear([block.q, block.k])(x)
    assert (q.shape[1], k.shape[1]) == (6, 2)
    assert torch.allclose(q, x @ tensors()["q.weight"][6:].T + tensors()["q.bias"][6:])


def test_a_tied_table_stays_one() -> None:
    model = nn.Module()
    model.embed = nn.Embedding(8, 4, device=META)
    model.head = linear(4, 8, False, torch.float32, META)
    model.head.weight = model.embed.weight
    entries = Partition("vocabulary entries", 8)
    cuts = Placement(entries, {"weight": (0, 1)})
    narrow(model, Plan(KV_HEADS, {"embed": cuts, "head": gathered(entries)}), Target(CPU, torch.float32, "none", 1, 2))
    load(model, [("embed.weight", torch.arange(32.0).view(8, 4))], lambda name: name)
    assert model.head.weight is model.embed.weight
    assert model.head.weight[0, 0] == 16


def test_only_the_kept_part_of_a_stored_tensor_is_read(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "model.safetensors")
    block = cut(1, 2)
    load(block, read_slices(tmp_path, CPU), lambda name: name)
    expected = loaded(1, 2)
    for name, parameter in block.named_parameters():
        assert torch.equal(parameter, expected[name])
        assert parameter.untyped_storage().nbytes() == parameter.nbytes


def test_experts_that_are_stored_one_by_one_are_cut_as_a_bank_is(tmp_path: Path) -> None:
    whole = tensors()
    gate, up = whole["bank.gate_up_proj"].chunk(2, 1)
    single = {name: tensor for name, tensor in whole.items() if not name.startswith("bank.")}
    for part, bank in (("gate", gate), ("up", up), ("down", whole["bank.down_proj"])):
        single |= {f"mlp.experts.{e}.{part}_proj.weight": bank[e].contiguous() for e in range(3)}
    save_file(single, tmp_path / "model.safetensors")
    block = cut(1, 2)
    load(block, merged(read_slices(tmp_path, CPU), 3), lambda name: name.replace("mlp.experts", "bank"))
    assert torch.equal(block.bank.gate_up_proj, torch.cat((gate[:, 4:], up[:, 4:]), 1))
    assert torch.equal(block.bank.down_proj, whole["bank.down_proj"][:, :, 4:])
