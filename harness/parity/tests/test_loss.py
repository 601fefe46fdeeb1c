"""The cost of rounding: an interval over tokens and a share of changed choices, by the class of the optimization."""

import math
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


@pytest.mark.parametrize(("share", "passes"), [(0.97, True), (1.03, False)])
@pytest.mark.parametrize(("numerics", "limit"), [("near_lossless", 1e-3), ("four_bit", 0.03)])
def test_the_mean_divergence_from_both_sides(numerics: str, limit: float, share: float, passes: bool) -> None:
    """Of two tokens alike, one of which becomes likelier; all rows alike, so that the interval is a point."""

    def kl(x: float) -> float:
        return math.log((math.exp(x / 2) + math.exp(-x / 2)) / 2)

    low, high = 0.0, 4.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kl(middle) < share * limit else (low, middle)
    theirs = torch.zeros(2, 50, 2, dtype=torch.float64)
    ours = theirs + torch.tensor([low, 0.0], dtype=torch.float64)
    (check, _) = judge_loss(spec(numerics), ("fewer_bits",), ours, theirs, theirs.argmax(-1), seed=0)
    assert (check.passed, check.noise) == (passes, 0)
    assert check.error == pytest.approx(share * limit, rel=1e-6)


@pytest.mark.parametrize(("numerics", "most"), [("near_lossless", 2), ("four_bit", 16)])
@pytest.mark.parametrize("more", [0, 1])
def test_the_share_of_changed_choices_from_both_sides(numerics: str, most: int, more: int) -> None:
    theirs = torch.zeros(1, 200, 3, dtype=torch.float64)
    theirs[..., 1] = 1e-6
    ours = theirs.clone()
    ours[0, : most + more, 2] = 2e-6
    (_, check) = judge_loss(spec(numerics), ("fewer_bits",), ours, theirs, theirs.argmax(-1), seed=0)
    assert (check.passed, check.noise, check.error) == (not more, 0, (most + more) / 200)
    assert check.where == f"{most + more} of 200 changed"


def test_what_is_told_beside_the_interval_is_that_of_every_token() -> None:
    ours, theirs, _ = draw(0.15)
    said = torch.randint(50, (2, 200), generator=torch.Generator().manual_seed(5))
    (check, _) = judge_loss(spec("four_bit"), ("fewer_bits",), ours, theirs, said, seed=1)
    mine, truth = (x.double().log_softmax(-1).flatten(0, 1) for x in (ours, theirs))
    kl = (truth.exp() * (truth - mine)).sum(-1)
    drawn = torch.randint(400, (1000, 400), generator=torch.Generator().manual_seed(1))
    low, high = (float(kl[drawn].mean(1).quantile(q)) for q in (0.025, 0.975))
    lost = (truth - mine)[torch.arange(400), said.flatten()].mean().exp()
    assert check.error == high
    assert check.where == (
        f"mean {float(kl.mean()):.3g}, 95 % {low:.3g} to {high:.3g}, 99.9 % below {float(kl.quantile(0.999)):.3g}, "
        f"perplexity x {float(lost):.4f}"
    )
