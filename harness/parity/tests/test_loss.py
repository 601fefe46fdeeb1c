"""The cost of rounding: an interval over tokens and a share of changed choices, by the class of the optimization."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.build.builder import BuildConfig, Source
from harness.parity.levels.quantization_loss import judge_loss, unjudged_loss
from harness.records.checks import Check
from harness.spec.optimization import Target


def spec(numerics: str) -> Any:
    item = SimpleNamespace(numerics=numerics, provides={"rounded_weights"})
    return SimpleNamespace(menu={"fewer_bits": item, "kv_cache": SimpleNamespace(numerics="exact", provides=set())})


def config(stack: tuple[str, ...], weights: Path | None) -> BuildConfig:
    return BuildConfig(
        spec("four_bit"), Source({}, 0, weights), stack, Target(torch.device("cpu"), torch.float32, "none")
    )


def draw(noise: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    theirs = torch.randn(2, 200, 50, generator=generator) * 3
    ours = theirs + noise * torch.randn(theirs.shape, generator=generator)
    return ours, theirs, theirs.argmax(-1)


def judged(noise: float, numerics: str) -> dict[str, Check]:
    checks = judge_loss(spec(numerics), ("kv_cache", "fewer_bits"), *draw(noise), seed=1)
    assert {check.subject for check in checks} == {"loss of fewer_bits"}
    return {check.rule: check for check in checks}


@pytest.mark.parametrize(
    ("noise", "numerics", "passed"),
    [
        (0.0, "near_lossless", True),
        (0.01, "near_lossless", True),
        (0.15, "near_lossless", False),
        (0.15, "four_bit", True),
        (0.8, "four_bit", False),
    ],
)
def test_each_class_has_its_own_limits(noise: float, numerics: str, passed: bool) -> None:
    found = judged(noise, numerics)
    assert {rule: check.passed for rule, check in found.items()} == {"mean KL": passed, "top-1": passed}


def test_the_upper_end_of_the_interval_is_what_is_held_against_the_limit() -> None:
    ours, theirs, _ = draw(0.15)
    truth = theirs.double().log_softmax(-1)
    mean = float((truth.exp() * (truth - ours.double().log_softmax(-1))).sum(-1).mean())
    check = judged(0.15, "four_bit")["mean KL"]
    assert mean < check.error < 1.3 * mean
    assert check.where.startswith(f"mean {mean:.3g}, 95 %")


def test_random_weights_leave_it_unjudged_with_the_reason() -> None:
    left = unjudged_loss(config(("kv_cache", "fewer_bits"), weights=None))
    assert [(item.subject, item.reason) for item in left] == [("loss of fewer_bits", "not judged: needs real weights")]
    assert unjudged_loss(config(("fewer_bits",), weights=Path("checkpoint"))) == ()
