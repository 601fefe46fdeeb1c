"""The rows of the table of components: what each is about, the files that do it, and the tests that prove it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.records.record import Record
from harness.spec.kernel import Kernel

SHARED = "models/common/**/tests"


@dataclass(frozen=True)
class Component:
    """A row. Paths start at the root; `{model}` stands for a model's folder, `*` for a name, `**` for any folders."""

    name: str
    code: tuple[str, ...]
    tests: tuple[str, ...] = ()
    """Each must exist. Those that judge the kernels of the row are added, from KERNEL_TESTS."""
    own: str | None = None
    """The test of a model that does it otherwise than its neighbors; linked where it exists."""
    optimizations: tuple[str, ...] = ()
    """What a record must have in its stack; any stack will do where there are none."""
    shows: Callable[[Record], object] = lambda record: record.parity
    """What a record must hold beside a passed parity."""
    counts: Callable[[Kernel], bool] | None = None
    """Which kernels of the menu the row is about, where it is about kernels."""
    part: str | None = None
    """The field of a ModelSpec that is None for a model without such a part."""


KERNEL_TESTS = {
    f"{SHARED}/test_layer_kernels.py": (
        "rms_norm", "add_rms_norm", "swiglu", "norm_rotate_write", "rotate_write", "prefill_attention",
    ),
    f"{SHARED}/test_decode_kernels.py": ("gemv", "gemv_swiglu", "decode_attention"),
    f"{SHARED}/test_quantized_kernels.py": ("gemv_int8", "gemv_fp8", "gemv_int4"),
    "{model}/tests/test_*_router.py": ("sigmoid_router", "softmax_router"),
    f"{SHARED}/test_moe_kernels.py": ("moe_gate_up", "moe_down", "moe_tiles_gate_up", "moe_tiles_down", "moe_combine"),
    "{model}/tests/test_tower_kernels.py": ("layer_norm", "add_layer_norm", "rotate_pair", "segment_attention"),
    f"{SHARED}/test_cluster_attention.py": ("cluster_attention",),
    f"{SHARED}/test_one_shot_all_reduce.py": ("one_shot_all_reduce",),
}  # fmt: skip
"""The test file of kernels, a path as those of a row -> those that it judges."""


def is_cuda(kernel: Kernel) -> bool:
    """A kernel that counts its own launches is no Triton function."""
    return kernel.launches is not None


PARITY = "{model}/tests/test_*_parity.py"
COMPONENTS = (
    Component("core model", ("{model}/model.py",), (PARITY, "{model}/tests/test_*_weights.py")),
    Component("plugin interface", ("{model}/plugin.py",), ("harness/build/tests/test_model_registry.py",)),
    Component(
        "attention",
        ("{model}/attention.py",),
        (f"{SHARED}/test_eager_twins.py", f"{SHARED}/test_fused_modules.py"),
        optimizations=("attention",),
    ),
    Component(
        "kernels, Triton",
        ("models/common", "{model}/kernels"),
        shows=lambda record: record.parity and "op" in record.parity.levels(),
        counts=lambda kernel: not is_cuda(kernel),
    ),
    Component("kernels, CUDA C++", ("{model}/cuda_kernels.py",), optimizations=("cuda_kernels",), counts=is_cuda),
    Component(
        "tensor parallelism",
        ("{model}/tensor_parallel.py",),
        ("{model}/tests/test_*_tensor_parallel.py", f"{SHARED}/test_sharding.py"),
        optimizations=("tensor_parallel", "one_shot_all_reduce"),
    ),
    Component(
        "KV cache", ("{model}/kv_cache.py",), (PARITY, f"{SHARED}/test_kv_cache.py"), optimizations=("kv_cache",)
    ),
    Component(
        "rotary",
        ("{model}/rotary.py",),
        (f"{SHARED}/test_eager_twins.py",),
        own="{model}/tests/test_*_positions.py",
        optimizations=("rotary",),
    ),
    Component(
        "fused layers",
        ("{model}/fused_layers.py",),
        (f"{SHARED}/test_fused_modules.py",),
        optimizations=("fused_layers",),
    ),
    Component("linear", ("{model}/linear.py",), (PARITY, f"{SHARED}/test_skinny.py"), optimizations=("linear",)),
    Component(
        "linear, fewer bits",
        ("{model}/linear.py",),
        ("{model}/tests/test_*_quantized.py", f"{SHARED}/test_quantized_linear.py"),
        optimizations=("linear_int8", "linear_fp8", "linear_int4"),
    ),
    Component(
        "router and experts",
        ("{model}/router.py", "{model}/moe.py"),
        ("{model}/tests/test_*_routing.py",),
        optimizations=("experts",),
        part="routing",
    ),
    Component(
        "vision",
        ("{model}/vision.py", "{model}/merger.py", "{model}/positions.py", "{model}/fusion.py"),
        (
            "{model}/tests/test_*_tower.py",
            "{model}/tests/test_*_positions.py",
            "{model}/tests/test_tower_kernels.py",
        ),
        part="vision",
    ),
    Component(
        "prefix caching",
        ("{model}/prefix_cache.py",),
        (PARITY, f"{SHARED}/test_prefixes.py", f"{SHARED}/test_prefix_tree.py"),
        own="{model}/tests/test_*_prefixes.py",
        optimizations=("prefix_caching",),
    ),
    Component(
        "tests",
        ("{model}/tests",),
        ("models/tests/test_self_contained.py", "models/tests/test_deletion.py", "harness/tests/test_workflows.py"),
        shows=lambda record: record.kill_matrix,
    ),
    Component(
        "benchmarks", ("{model}/benchmarks",), ("{model}/benchmarks/bench_*.py",), shows=lambda record: record.series
    ),
)
