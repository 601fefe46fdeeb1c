"""A replayed graph depends on the device alone; what the host launches, on both."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records import phase_machine
from harness.records.record import Record
from harness.records.run_file import read_file
from harness.records.timing_protocol import protocol
from models.common.graphs.captured_prompt import MOST_TOKENS

RESULTS = Path(__file__).resolve().parents[3] / "benchmark_results" / "h200"
GPU = {"gpu": "NVIDIA H200", "gpu_count": 1, "driver": "1", "packages": {"torch": "2", "numpy": "1"}}


@pytest.fixture
def make_record(make_case, environment):
    def make(stack=("cuda_graph", "prompt_graph"), workload=None, parameters=None, hardware="h200", **changes):
        plain = make_case().workload
        case = make_case(
            hardware=hardware,
            optimizations=stack,
            workload=plain.model_copy(update=workload or {}),
            parameters=parameters or {},
        )
        fields = {"run": "r", "plan": "p", "case": case, "key": case.key, "status": "skipped", "reason": "none"}
        measured = environment.model_copy(update=GPU | changes)
        return Record(**fields, started_at="", wall_s=0.0, environment=measured)

    return make


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"cpu_cores": 32}, ("cpu_cores",)),
        ({"memory_bytes": 1}, ("memory_bytes",)),
        ({"packages": {"torch": "2", "numpy": "2"}}, ("packages",)),
    ],
)
def test_the_host_counts_where_it_launches(make_record, change, names):
    replayed, launched = make_record(), make_record(stack=())
    for phase in ("prefill", "decode"):
        assert phase_machine.machine(replayed, phase) == phase_machine.machine(make_record(**change), phase)
        assert phase_machine.differences(replayed, make_record(**change), phase) == ()
        other = make_record(stack=(), **change)
        assert phase_machine.machine(launched, phase) != phase_machine.machine(other, phase)
        assert phase_machine.differences(launched, other, phase) == names


@pytest.mark.parametrize(
    "change",
    [
        {"driver": "2"},
        {"power_limit_w": 500.0},
        {"ecc": True},
        {"packages": {"torch": "3", "numpy": "1"}},
        {"packages": {"torch": "2", "numpy": "1", "nvidia-cublas": "9"}},
    ],
)
def test_the_device_always_counts(make_record, change):
    for stack in ((), ("cuda_graph", "prompt_graph")):
        one, other = make_record(stack=stack), make_record(stack=stack, **change)
        assert phase_machine.machine(one, "decode") != phase_machine.machine(other, "decode")
        assert phase_machine.differences(one, other, "decode")


def test_a_cpu_is_its_own_host(make_record):
    one, other = make_record(hardware="cpu"), make_record(hardware="cpu", cpu_cores=32)
    assert phase_machine.machine(one, "decode") != phase_machine.machine(other, "decode")


@pytest.mark.parametrize(
    ("workload", "parameters", "replayed"),
    [
        ({}, {}, True),
        ({"batch": 1, "prompt_tokens": MOST_TOKENS}, {}, True),
        ({"batch": 1, "prompt_tokens": MOST_TOKENS + 1}, {}, False),
        ({"batch": 1, "prompt_tokens": 512}, {"prompt_graph.max_tokens": 256}, False),
        ({"images": 1}, {}, False),
        ({"shared_prefix_tokens": 8}, {}, False),
    ],
)
def test_prompts_that_are_never_captured_are_launched_by_the_host(make_record, workload, parameters, replayed):
    record = make_record(workload=workload, parameters=parameters)
    assert phase_machine.replayed(record, "prefill") is replayed


def test_the_same_gpu_behind_two_hosts_is_one_machine_on_file():
    """16 and 32 cores: two whole fingerprints, one device."""
    records = [record for path in sorted(RESULTS.glob("*.jsonl")) for record in read_file(path).records]
    timed = [record for record in records if record.series and record.environment]
    assert {record.environment.cpu_cores for record in timed} == {16, 32}
    assert len({record.environment.device_fingerprint() for record in timed}) == 1
    assert len({record.environment.fingerprint() for record in timed}) > 1


def test_a_protocol_says_what_its_samples_were_fed():
    records = [record for path in sorted(RESULTS.glob("*.jsonl")) for record in read_file(path).records]
    fed = {protocol(record).partition(", ")[2]: record.schema_version >= 7 for record in records if record.series}
    assert fed == {"same inputs": False, "new inputs": True}
