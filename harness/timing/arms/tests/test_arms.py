"""The arms compute the same model, can go back, and say why they are absent."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.build import builder
from harness.parity.tolerance.rules import relative_frobenius
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Target
from harness.timing.arms.arm import Arm, ArmAbsent, Shape, last_tokens
from harness.timing.arms.by_name import PEERS
from harness.timing.arms.candidate import Candidate
from harness.timing.arms.prefix_hit import PrefixHit
from harness.timing.arms.sibling import EAGER, LABELS, ONE_DEVICE, Sibling
from models.qwen3_4b_instruct_2507 import SPEC

CPU = torch.device("cpu")
PROMPT = torch.randint(2000, (2, 12), generator=torch.Generator().manual_seed(0))
INPUTS = ModelInputs(PROMPT)


@pytest.fixture(scope="module")
def arms() -> dict[str, Arm]:
    source = builder.Source.of(SPEC, "tiny", 0, None)
    hf = builder.reference(SPEC, source, torch.float32, CPU)
    stack = ("kv_cache", "prefix_caching", "linear")
    config = builder.BuildConfig(SPEC, source, stack, Target(CPU, torch.float32, "none"))
    ours = builder.candidate(config, hf).model
    return {
        "reference": PEERS["reference"](hf),
        "hf_static": PEERS["hf_static"](hf),
        "candidate": Candidate(ours, "candidate", "ours"),
        "eager": Sibling(EAGER, config, hf),
        "prefix hit": PrefixHit(ours, "candidate", "ours", shared=8),
    }


@pytest.mark.parametrize("name", ["reference", "hf_static", "candidate", "eager", "prefix hit"])
@torch.no_grad()
def test_every_arm_gives_the_references_logits_again_and_again(arms: dict[str, Arm], name: str) -> None:
    shape = Shape(INPUTS, decode_steps=3)
    arms["reference"].open(shape)
    prefill = arms["reference"].prefill(INPUTS).clone()
    decode = arms["reference"].decode(last_tokens(PROMPT), 3).logits
    arms[name].open(shape)
    for _ in range(2):
        assert relative_frobenius(arms[name].prefill(INPUTS), prefill) < 1e-5
        for _ in range(2):
            arms[name].rewind()
            assert relative_frobenius(arms[name].decode(last_tokens(PROMPT), 3).logits, decode) < 1e-5


@torch.no_grad()
def test_every_prefill_of_a_prefix_hit_finds_as_much_as_the_first(arms: dict[str, Arm]) -> None:
    arm = arms["prefix hit"]
    assert isinstance(arm, PrefixHit)
    arm.open(Shape(INPUTS, decode_steps=3))
    found = []
    for _ in range(3):
        arm.prefill(INPUTS)
        assert arm.opened is not None
        found.append(arm.opened.matched)
    assert found == [8, 8, 8]


@pytest.mark.parametrize("name", ["hf_reduce_overhead", "hf_max_autotune", "liger"])
def test_an_arm_that_needs_a_gpu_says_so(arms: dict[str, Arm], name: str) -> None:
    with pytest.raises(ArmAbsent, match="need a GPU"):
        PEERS[name](arms["reference"].model).open(Shape(INPUTS, 3))


@torch.no_grad()
def test_a_build_of_ours_shares_the_references_weights_and_is_absent_where_it_is_the_candidate(
    arms: dict[str, Arm],
) -> None:
    eager, hf = arms["eager"], arms["reference"].model
    eager.open(Shape(INPUTS, decode_steps=1))
    held = {tensor.data_ptr() for tensor in hf.parameters()}
    assert {tensor.data_ptr() for tensor in eager.model.parameters()} == held
    for name, stack in ((EAGER, ()), (ONE_DEVICE, eager.stack)):
        with pytest.raises(ArmAbsent, match="it is the candidate itself"):
            Sibling(name, replace(eager.config, stack=stack), hf).open(Shape(INPUTS, 1))


def test_one_device_is_absent_where_the_candidate_may_have_seen_a_prompt_before(arms: dict[str, Arm]) -> None:
    eager, hf, stack = arms["eager"], arms["reference"].model, ("tensor_parallel", "kv_cache")
    seen = Sibling(ONE_DEVICE, replace(eager.config, stack=stack), hf, shared=3)
    with pytest.raises(ArmAbsent, match="may have seen before"):
        seen.open(Shape(INPUTS, decode_steps=1))


def test_every_arm_has_its_file_and_every_file_its_arm() -> None:
    files = {path.stem for path in (Path(__file__).parents[4] / "conf" / "arm").glob("*.yaml")}
    assert files - {"auto"} == {*PEERS, *LABELS}


def test_last_tokens_have_strides_of_their_own() -> None:
    one_row = torch.arange(1024).view(1, 1024)
    assert one_row[:, -1:].clone().stride() == (1024, 1)
    assert last_tokens(one_row).stride() == (1, 1)
    assert last_tokens(one_row).tolist() == [[1023]]
