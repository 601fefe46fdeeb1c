"""A run with one case of every end, made of seeded random numbers around realistic figures."""

import random
from itertools import product

import pytest

from harness.records.case import Case, Plan, Skip, TimingSettings, WorkloadShape
from harness.records.checks import Check, Divergence, NotJudged, Parity
from harness.records.record import (
    ArmReport,
    Block,
    Ceilings,
    Environment,
    Failure,
    KernelTime,
    Provenance,
    ReceiptNote,
    Record,
    Series,
    Work,
)

PROCESSES, BLOCKS = 3, 24
STACK = ("rotary", "attention", "fused_layers", "kv_cache", "linear", "cuda_graph")
STANDARD = WorkloadShape(name="standard", batch=1, prompt_tokens=1024, new_tokens=128, dtype="bfloat16")
SMOKE = WorkloadShape(name="smoke", batch=2, prompt_tokens=37, new_tokens=8, dtype="float16")
ARM_LABELS = {
    "candidate": "candidate",
    "again": "candidate, again",
    "reference": "Hugging Face default",
    "hf_static": "Hugging Face, static cache",
    "hf_reduce_overhead": "Hugging Face compiled, reduce-overhead",
    "hf_max_autotune": "Hugging Face compiled, max-autotune",
}
TIMES_MS = {
    "decode": dict(zip(ARM_LABELS, (2.24, 2.24, 26.8, 23.1, 6.23, 4.88), strict=True)),
    "prefill": dict(zip(ARM_LABELS, (19.3, 19.3, 21.6, 21.9, 21.4, 20.9), strict=True)),
}
MACHINE = Environment(
    commit="4f1c2a9be07d5e6a8c3b1f00d2e4a6c8e0b2d4f6",
    dirty=False,
    diff_hash=None,
    command=(
        "python",
        "-m",
        "harness",
        "-m",
        "+model=glob(*)",
        "optimization=full",
        "hardware=h200",
        "timing=standard",
    ),
    python="3.12.8",
    platform="Linux 6.8.0 x86_64",
    packages={"torch": "2.11.0", "triton": "3.6.0", "transformers": "5.17.0"},
    cpu="Intel Xeon Platinum 8480C",
    cpu_cores=16,
    memory_bytes=128 * 2**30,
    gpu="NVIDIA H200",
    gpu_count=1,
    gpu_memory_bytes=150_754_820_096,
    driver="580.65.06",
    cuda="13.0",
    power_limit_w=700.0,
    ecc=True,
    mig=False,
)


def timing(processes=PROCESSES):
    return TimingSettings(
        name="standard" if processes else "off",
        processes=processes,
        min_blocks=20,
        max_blocks=200,
        half_width=0.005,
        margin=0.01,
        limit_s=90.0,
    )


def case(model="qwen3_4b_instruct_2507", optimizations=STACK, **changes):
    fields = {"size": "full", "hardware": "h200", "workload": STANDARD, "timing": timing(), "seed": 0} | changes
    arms = ("reference", "hf_static", "hf_reduce_overhead", "hf_max_autotune")
    return Case(model=model, optimizations=optimizations, arms=arms, deadline_s=3600.0, **fields)


def tiny(model, *optimizations):
    return case(model, optimizations, size="tiny", workload=SMOKE, timing=timing(0))


def checks(rng, scale=0.6):
    subjects = {
        "op": ("rope_and_cache_write", "split_kv_attention", "add_rms_norm", "gemv_bf16"),
        "layer": ("layer 0", "layer 1", "layer 2"),
        "logits": ("logits bfloat16", "logits float32"),
        "generation": ("greedy",),
        "path": ("chunked prefill", "cuda graph against eager", "batch 1 against 4"),
    }
    inputs = ("randn, prime", "offset +4", "peaky", "outlier channels")
    for level, names in subjects.items():
        for subject, name in product(names, inputs if level == "op" else ("hidden",)):
            noise = rng.uniform(1e-3, 4e-3)
            limit = noise * (2 if level == "op" else 4)
            share = min(rng.betavariate(4, 4) * scale * 1.5, 0.97)
            yield Check(
                level=level, subject=subject, name=name, rule=rng.choice(("max", "rms", "slices", "gain")),
                error=share * limit, noise=noise, limit=limit, where=f"[0, {rng.randrange(32)}, {rng.randrange(128)}]",
            )  # fmt: skip


def parity(rng, *broken, divergence=None):
    return Parity(
        checks=(*checks(rng), *broken),
        not_judged=(
            NotJudged(level="path", subject="tensor parallel 2", reason="one GPU in this machine, two needed"),
        ),
        first_divergence=divergence,
        wall_s=48.2,
    )


def series(rng, phase, times, between_processes=0.01):
    for process in range(PROCESSES):
        drift = rng.gauss(1, between_processes)
        for arm, middle in times.items():
            samples = tuple(middle * drift * rng.lognormvariate(0, 0.003) for _ in range(BLOCKS))
            yield Series(arm=arm, phase=phase, process=process, samples_ms=samples, blocks=tuple(range(BLOCKS)))


def blocks(rng):
    for phase, process, index in product(("prefill", "decode"), range(PROCESSES), range(BLOCKS)):
        yield Block(
            phase=phase, process=process, index=index, sm_clock_mhz=1980 - 15 * rng.randrange(3),
            temperature_c=rng.uniform(48, 61), power_w=rng.uniform(470, 640), sentinel_ms=rng.gauss(0.512, 0.002),
            throttle=("software power cap",) if (phase, process) == ("decode", 1) and index in (7, 15) else (),
            wall_disagreement=rng.uniform(0, 0.01),
        )  # fmt: skip


def arm_reports(rng):
    for (name, label), process in product(ARM_LABELS.items(), range(PROCESSES)):
        compiled = "compiled" in label
        yield ArmReport(
            name=name, label=label, process=process, load_s=rng.uniform(9, 12), rechecked=True,
            compile_s=rng.uniform(90, 190) if compiled else 0.0, capture_s=2.1 if "candidate" in label else 0.0,
            peak_memory_bytes=int(rng.uniform(8.9, 10.2) * 2**30), device_memory_bytes=11 * 2**30,
            energy_j_per_token=rng.uniform(1.1, 1.4), decode_kernels_per_layer=9.25,
        )  # fmt: skip
    yield ArmReport(name="liger", label="Liger kernels", process=0, absent="liger-kernel is not installed")


def kernel_times():
    shapes = (
        ("gemv_bf16", "gate-up, 19456 x 2560", 0.0239, 0.0312, 99_614_720, 99_614_720),
        ("split_kv_attention", "B1, 8192 keys", 0.0164, 0.0551, 33_554_432, 268_435_456),
        ("add_rms_norm", "8192 x 2560", 0.0322, 0.118, 125_829_120, 104_857_600),
    )
    for kernel, shape, median, twin, moved, flops in shapes:
        yield KernelTime(
            kernel=kernel, case=shape, median_ms=median, low_ms=median * 0.994, high_ms=median * 1.007, n=40,
            hot_ms=median / 2, hot_low_ms=median / 2, hot_high_ms=median / 2,
            twin_ms=twin, bytes=moved, written_bytes=0, flops=flops,
            twin_from_host="operation not permitted while capturing" if kernel == "split_kv_attention" else None,
        )  # fmt: skip


def record(plan, of, status, **more):
    fields = {"started_at": "2026-03-02T09:14:07+00:00", "wall_s": 512.4, "environment": MACHINE} | more
    return Record(run="2026-03-02-4f1c2a9b-h200", plan=plan.hash, case=of, key=of.key, status=status, **fields)


def speed(rng, times=None, between_processes=0.01):
    """The fields of a record that was timed on a GPU with its five arms."""
    times = times or TIMES_MS
    return {
        "parity": parity(rng),
        "arms": tuple(arm_reports(rng)),
        "series": tuple(one for phase in times for one in series(rng, phase, times[phase], between_processes)),
        "blocks": tuple(blocks(rng)),
        "work": (
            Work(phase="decode", bytes=8_196_000_000, flops=8_100_000_000),
            Work(phase="prefill", bytes=8_300_000_000, flops=8_500_000_000_000),
        ),
        "ceilings": Ceilings(
            read_bytes_per_s=4.64e12, copy_bytes_per_s=4.26e12, matmul_flops_per_s=7.71e14, matmul_dtype="bfloat16"
        ),
        "kernels": tuple(kernel_times()),
        "provenance": Provenance(hf_config="9f2c41d0a7be8831", kernel_sources="1d0b6a5ce2f47790"),
        "receipts": tuple(
            ReceiptNote(optimization=name, touched=tuple(f"layers.{i}.self_attn" for i in range(36))) for name in STACK
        ),
    }


DIVERGENCE = Divergence(
    layer=2, stage="q_rotated", op="rotary", rule="slices", where="head 7", error=0.41, limit=0.0092
)
BROKEN = Check(
    level="layer", subject="layer 2", name="q_rotated", rule="slices", error=0.41, noise=0.0023, limit=0.0092,
    where="head 7",
)  # fmt: skip


@pytest.fixture(scope="session")
def ends():
    """One case of every end, by the word for it: `cases`, and their `plan` and `records`."""
    rng = random.Random(7)
    cases = {
        "timed": case(),
        "untimed": tiny("qwen3_coder_30b", "rotary"),
        "failed": tiny("qwen3_vl_2b", "rotary"),
        "crashed": case("glm_4_7", ("rotary", "attention"), size="slice"),
        "lost": case("qwen3_vl_2b", ("kv_cache",)),
        "unrecorded": case("qwen3_coder_30b", ("kv_cache",)),
        "skipped": case("glm_4_7", ("tensor_parallel",)),
    }
    skip = Skip(case=cases["skipped"], reason="tensor_parallel needs 2 GPUs, this machine has 1")
    plan = Plan(
        cases=tuple(case for name, case in cases.items() if name != "skipped"),
        skipped=(skip,),
        notes=("full leaves out tensor_parallel on one GPU",),
    )
    failure = Failure(
        kind="TritonError",
        message="out of resource: shared memory, required 245760, limit 232448",
        traceback='Traceback (most recent call last):\n  File "harness/worker.py", line 88, in run\nTritonError: out',
    )
    records = {
        "timed": record(plan, cases["timed"], "passed", **speed(rng)),
        "untimed": record(plan, cases["untimed"], "passed", parity=parity(rng), timing_notes=("timing is off",)),
        "failed": record(plan, cases["failed"], "failed", parity=parity(rng, BROKEN, divergence=DIVERGENCE)),
        "crashed": record(plan, cases["crashed"], "crashed", error=failure),
        "lost": record(plan, cases["lost"], "lost", reason="the machine restarted"),
        "skipped": record(plan, cases["skipped"], "skipped", reason=skip.reason, environment=None),
    }
    return cases, plan, records


@pytest.fixture
def alone(ends):
    """A function: the name of one end, and changes to its record, to (records, plan) of a run of that case only."""
    cases, _, records = ends

    def run_of(name, **changes):
        plan = Plan(cases=(cases[name],), skipped=())
        return (records[name].model_copy(update={"plan": plan.hash} | changes),), plan

    return run_of


@pytest.fixture
def timed_at():
    """A function: candidate and strongest milliseconds of a decode step to (records, plan) of that one case."""

    def run_of(**arms_ms):
        plan = Plan(cases=(case(),), skipped=())
        return (record(plan, case(), "passed", **speed(random.Random(3), {"decode": arms_ms})),), plan

    return run_of


GAINS = {"rotary": 1.08, "attention": 1.6, "linear": 0.9, "cuda_graph": 3.1}


@pytest.fixture(scope="session")
def sweep():
    """(records, plan) of an ablation whose optimizations multiply decode speed by GAINS; the second step crashed."""
    names = tuple(GAINS)
    grown = [names[:count] for count in range(len(names) + 1)]
    stacks = dict.fromkeys((*grown, *((name,) for name in names), *(_less(names, name) for name in names)))
    rng = random.Random(5)
    cases = {stack: case(optimizations=stack) for stack in stacks}
    plan = Plan(cases=tuple(cases.values()), skipped=())
    failure = Failure(kind="TritonError", message="out of resource", traceback="")
    records = tuple(
        record(plan, of, "crashed", error=failure)
        if stack == names[:2]
        else record(plan, of, "passed", **speed(rng, {"decode": _times(stack)}, between_processes=0.001))
        for stack, of in cases.items()
    )
    return records, plan


def _less(names, name):
    return tuple(other for other in names if other != name)


def _times(stack):
    ours = 20.0
    for name in stack:
        ours /= GAINS[name]
    return {"candidate": ours, "again": ours, "reference": 20.0}
