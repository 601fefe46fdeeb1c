"""Every guard of `check_kernel` fires on a kernel made to break it, and on nothing else."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.parity.kernels.canaries import LARGE, NANS, Guarded, place
from harness.parity.kernels.kernel_checks import check_kernel
from harness.spec.kernel import Cost, Kernel, OpCase

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def normalize(x: Tensor) -> dict[str, Tensor]:
    h = x.to(torch.promote_types(x.dtype, torch.float32))
    return {"y": (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype)}


def menu(dtype, device, generator):
    for shape, scale in [((3, 7), 1.0), ((5, 64), 1e-3), ((4, 33), 1.0)]:
        x = (torch.randn(shape, generator=generator, device=device) * scale).to(dtype)
        yield OpCase(f"{shape} x{scale:g}", {"x": x})
        yield OpCase(f"{shape} x{scale:g} transposed", {"x": x.T.contiguous().T})


def kernel(launch, eager=normalize, cases=menu, **fields) -> Kernel:
    return Kernel("made", launch, eager, cases, lambda **_: Cost(0, 0), lambda _: (), **fields)


def failures(made: Kernel, dtype=torch.float32) -> dict[str, str]:
    """Rule -> where, of every check that failed."""
    return {check.rule: check.where for check in check_kernel(made, dtype, CPU, 0) if not check.passed}


def blocked(x: Tensor) -> dict[str, Tensor]:
    h = x.float()
    total = sum(part.square().sum(-1, keepdim=True) for part in h.split(4, -1))
    return {"y": (h / torch.sqrt(total / h.shape[-1] + 1e-6)).to(x.dtype)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_kernel_passes_and_every_case_is_recorded(dtype):
    checks = check_kernel(kernel(blocked), dtype, CPU, 0)
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]
    outputs = [check.name for check in checks if check.name.endswith(": y")]
    assert len(outputs) == 7 + 1
    assert outputs[-2:] == ["(3, 7) x1, redrawn: y", "ordinary cases: y"]
    assert len(checks) == 7 * 6 + 3


def test_a_row_that_is_promised_its_bits_in_any_company_keeps_them():
    right = kernel(blocked, batch_invariant=("x",))
    batch = [check for check in check_kernel(right, torch.float32, CPU, 0) if check.rule == "batch"]
    assert [(check.name, check.error) for check in batch] == [("(3, 7) x1", 0)]

    def by_rows(x):
        (y,) = blocked(x).values()
        return {"y": y if len(x) == 1 else torch.nextafter(y, torch.zeros_like(y))}

    assert failures(kernel(by_rows, batch_invariant=("x",))).keys() == {"batch"}
    assert failures(kernel(by_rows)) == {}


def test_an_input_written_without_leave():
    def launch(x):
        out = blocked(x)
        x[0, 0] += 1
        return out

    assert failures(kernel(launch)) == {"inputs": "x"}


def test_a_read_beyond_the_last_row_shows_as_nan():
    def launch(x):
        over = x.as_strided((x.shape[0] + 1, x.shape[1]), x.stride(), x.storage_offset())
        leaked = blocked(x)["y"] + 0 * over[1:]
        return {"y": leaked}

    assert "mask" in failures(kernel(launch))


def test_a_read_that_ignores_nan_shows_as_a_halo_read():
    def twin(x):
        return {"y": x.amax(-1) * 1.1}

    def launch(x):
        before = x.as_strided((), (), x.storage_offset() - 1).nan_to_num(nan=-1e4)
        return {"y": torch.maximum(x.amax(-1), before) * 1.1}

    assert "out-of-bounds read" in failures(kernel(launch, twin))
    assert not failures(kernel(twin, twin))


def test_integers_read_from_the_halo_show():
    def cases(dtype, device, generator):
        yield OpCase("gather", {"x": torch.randn(9, generator=generator).to(dtype), "ids": torch.arange(9).flip(0)})

    def twin(x, ids):
        return {"y": x[ids]}

    def peek(x, ids):
        return {"y": x[torch.cat([ids[:-1], ids.as_strided((1,), (1,), ids.storage_offset() + 9)])]}

    assert not failures(kernel(twin, twin, cases, bitwise_outputs=("y",)))
    assert {"exact", "out-of-bounds read"} <= failures(kernel(peek, twin, cases, bitwise_outputs=("y",))).keys()


@pytest.mark.parametrize("offset", [-1, 1])
def test_a_write_beside_an_input(offset):
    def launch(x):
        out = blocked(x)
        end = 0 if offset < 0 else sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))
        x.as_strided((1,), (1,), x.storage_offset() + end + offset).zero_()
        return out

    assert failures(kernel(launch)) == {"out-of-bounds write": "x"}


@pytest.mark.parametrize("make", [torch.empty_like, torch.zeros_like, lambda x: x.new_empty(x.shape)])
def test_a_write_past_an_output(make):
    def launch(x):
        y = make(x.contiguous()).copy_(blocked(x)["y"])
        y.as_strided((2,), (1,), y.storage_offset() + y.numel()).zero_()
        return {"y": y}

    assert failures(kernel(launch)) == {"out-of-bounds write": "y"}


def test_a_write_past_a_workspace():
    def launch(x):
        work = torch.zeros(5, dtype=torch.int32, device=x.device)
        work.as_strided((1,), (1,), work.storage_offset() + 5).fill_(1)
        return blocked(x)

    assert failures(kernel(launch)) == {"out-of-bounds write": "workspace (5,)"}


def test_what_lies_beside_an_output_shows_in_it():
    def launch(x):
        y = torch.empty_like(x.contiguous()).copy_(blocked(x)["y"])
        beside = y.as_strided((1,), (1,), y.storage_offset() + y.numel())
        y.view(-1)[-1:] = torch.maximum(y.view(-1)[-1:], beside.nan_to_num(-torch.inf))
        return {"y": y}

    assert "out-of-bounds read" in failures(kernel(launch))


def test_a_write_into_the_gap_between_rows():
    def sliced(dtype, device, generator):
        yield OpCase("sliced", {"x": torch.randn(3, 12, generator=generator).to(dtype)[:, :8]})

    def launch(x):
        x.as_strided((3, 1), x.stride(), x.storage_offset() + 8).zero_()
        return blocked(x)

    assert failures(kernel(launch, cases=sliced)) == {"out-of-bounds write": "x"}


def test_an_unwritten_tail_shows_and_the_setting_comes_back():
    def launch(x):
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        y[:, :-1] = blocked(x)["y"][:, :-1]
        return {"y": y}

    before = torch.are_deterministic_algorithms_enabled()
    assert failures(kernel(launch)).keys() == {"mask"}
    assert torch.are_deterministic_algorithms_enabled() == before


def test_an_output_kept_for_the_next_call():
    kept: dict[torch.Size, Tensor] = {}

    def launch(x):
        return {"y": kept.setdefault(x.shape, torch.empty(x.shape)).copy_(blocked(x)["y"])}

    assert failures(kernel(launch)) == {"memory": "y is returned again by the next call"}


def test_an_answer_remembered_by_shape_is_wrong_on_redrawn_inputs():
    kept: dict[torch.Size, Tensor] = {}

    def launch(x):
        return {"y": kept.setdefault(x.shape, blocked(x)["y"]).clone()}

    once = [check for check in check_kernel(kernel(launch), torch.float32, CPU, 0) if not check.passed]
    assert [check.name for check in once] == ["(3, 7) x1, redrawn: y"]


def test_a_result_that_changes_between_calls():
    calls = itertools.count()

    def launch(x):
        return {"y": blocked(x)["y"] * (1 + next(calls) % 3 * 2.0**-23)}

    assert failures(kernel(launch)).keys() == {"determinism"}


def test_zeros_fail_and_a_blind_menu_is_said_to_be_blind():
    def zero_menu(dtype, device, generator):
        yield OpCase("zeros", {"x": torch.zeros(3, 4, dtype=dtype)})

    def nothing(x):
        return {"y": torch.zeros(x.shape, dtype=x.dtype)}

    assert {"max", "rms"} & {
        check.rule for check in check_kernel(kernel(nothing), torch.float32, CPU, 0) if not check.passed
    }
    blind = failures(kernel(blocked, cases=zero_menu))
    assert blind["sensitivity"] == "shuffled, zeros"


def test_an_output_that_is_a_view_of_its_input():
    def twin(x):
        return {"y": x.clone()}

    assert failures(kernel(lambda x: {"y": x}, twin, bitwise_outputs=("y",)))["memory"] == "y is a view of the input x"


def test_a_mutated_input_must_be_the_one_returned_and_is_judged():
    def cases(dtype, device, generator):
        cache, new = (torch.randn(n, 4, generator=generator).to(dtype) for n in (8, 2))
        yield OpCase("write", {"cache": cache, "new": new, "slots": torch.tensor([5, 1])})

    def twin(cache, new, slots):
        cache[slots] = new
        return {"cache": cache}

    def elsewhere(cache, new, slots):
        return twin(cache.clone(), new, slots)

    def stale(cache, new, slots):
        cache[slots[:1]] = new[:1]
        return {"cache": cache}

    allowed = {"mutates": ("cache",), "bitwise_outputs": ("cache",)}
    assert not failures(kernel(twin, twin, cases, **allowed))
    assert failures(kernel(twin, twin, cases, bitwise_outputs=("cache",))).keys() == {"inputs", "memory"}
    assert failures(kernel(elsewhere, twin, cases, **allowed)).keys() == {"memory"}
    assert failures(kernel(stale, twin, cases, **allowed)).keys() == {"exact"}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y: {"y": y.bfloat16()},
        lambda y: {"y": y[:, :-1].contiguous()},
        lambda y: {"y": y, "extra": y},
        lambda y: {"z": y},
    ],
)
def test_a_wrong_structure(wrong):
    assert failures(kernel(lambda x: wrong(blocked(x)["y"]))).keys() == {"structure"}


def test_a_layout_that_would_break_the_next_view():
    found = failures(kernel(lambda x: {"y": blocked(x)["y"].T.contiguous().T}, lambda x: normalize(x.contiguous())))
    assert found == {"memory": "y is not contiguous as the twin's is"}


def test_a_twin_that_computes_in_float32_inside_cannot_be_a_reference():
    def twin(x):
        return {"y": normalize(x.float())["y"].to(x.dtype)}

    assert failures(kernel(twin, twin))["reference"] == "y"
    assert "reference" not in failures(kernel(twin, twin), torch.bfloat16)


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(HarnessError, match="rounded already"):
        check_kernel(kernel(blocked, blocked_to_float32), torch.float32, CPU, 0)
    with pytest.raises(HarnessError, match="empty menu"):
        check_kernel(kernel(blocked, cases=lambda *_: iter(())), torch.float32, CPU, 0)
    with pytest.raises(HarnessError, match="no halo would guard"):
        place({"x": [torch.ones(2)]}, NANS)


def blocked_to_float32(x: Tensor) -> dict[str, Tensor]:
    return {"y": normalize(x)["y"].float()}


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn])
@pytest.mark.parametrize("poison", [NANS, LARGE])
def test_a_guarded_copy_keeps_values_strides_and_alignment(dtype, poison):
    upcast = torch.randint(0, 2, (4, 40)).to(dtype)
    overlapping = upcast.as_strided((5, 3), (1, 1))
    for source in (
        upcast,
        overlapping,
        upcast[:, 1:9],
        upcast.T,
        upcast[:1].expand(3, 40),
        upcast[0, 0],
        upcast[:0],
        upcast.flatten()[1:],
    ):
        guard = Guarded(source, poison)
        copy = guard.tensor
        assert (copy.shape, copy.stride(), copy.dtype) == (source.shape, source.stride(), source.dtype)
        assert torch.equal(copy.to(torch.float32), source.to(torch.float32))
        assert not copy.numel() or copy.data_ptr() % 64 == source.data_ptr() % 64
        assert guard.changes() == (0, 0)
