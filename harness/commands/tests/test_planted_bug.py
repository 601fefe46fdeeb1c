"""A bug planted in the sources makes the command refuse, and name the layer and the op."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DENSE, SPARSE, SEEING, LARGE = "qwen3_4b_instruct_2507", "qwen3_coder_30b", "qwen3_vl_2b", "glm_4_7"
NATIVE = "[kv_cache,prefix_caching]"
"""What of the full stack launches no kernel: none is interpreted for a fault that is in none."""
PLANTS = {
    "all-reduce skipped": (
        DENSE,
        "tensor_parallel",
        "models/common/parallel/joins.py",
        "            return self.all_reduce(part, dtype)",
        "            return part.to(dtype)",
        "layer 0, output (o projection)",
    ),
    "every rank keeps the first share": (
        DENSE,
        "tensor_parallel",
        "models/common/parallel/tensor_parallel.py",
        "return range(rank * each, (rank + 1) * each)",
        "return range(each)",
        "layer 0, output (o projection)",
    ),
    "rotary on the query only": (
        DENSE,
        "none",
        "models/common/attention/eager.py",
        "cache.write(rotate(self.k_norm(k), cos, sin), v, slots)",
        "cache.write(self.k_norm(k), v, slots)",
        "layer 0, key_cached (QK-norm and rotary, cache write)",
    ),
    "gate and up exchanged": (
        DENSE,
        "none",
        "models/common/mlp/eager.py",
        "return F.silu(gate) * up\n",
        "return F.silu(up) * gate\n",
        "layer 0, gated (gate, up and SwiGLU)",
    ),
    "gate taken for up in a Triton kernel": (
        DENSE,
        "fused_layers",
        "models/common/mlp/swiglu.py",
        "(silu(gate, dtype) * up).to(dtype)",
        "(silu(gate, dtype) * gate).to(dtype)",
        "layer 0, gated (gate, up and SwiGLU)",
    ),
    "weights of the experts summed over tokens": (
        SPARSE,
        NATIVE,
        "models/qwen3_coder_30b/router.py",
        "best.sum(-1, keepdim=True)",
        "best.sum(0, keepdim=True)",
        "layer 0, router (router)",
    ),
    "shared expert left out": (
        LARGE,
        NATIVE,
        "models/glm_4_7/moe.py",
        "return self.routed(x) + self.shared(x)",
        "return self.routed(x)",
        "layer 1, experts (experts, and their sum with the shared one)",
    ),
    "keys taken for values in the tower": (
        SEEING,
        NATIVE,
        "models/qwen3_vl_2b/vision.py",
        "v = qkv.unflatten(1, (3, self.heads, -1))[:, 2]",
        "v = qkv.unflatten(1, (3, self.heads, -1))[:, 1]",
        "tower block 0 (attention and MLP float32)",
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_the_command_refuses_and_names_the_place(plant: str, tmp_path: Path) -> None:
    model, stack, file, right, wrong, place = PLANTS[plant]
    for folder in ("harness", "models", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    source = (tmp_path / file).read_text()
    assert right in source, "the planted bug no longer fits the source"
    (tmp_path / file).write_text(source.replace(right, wrong))
    command = [sys.executable, "-m", "harness", f"+model={model}", f"optimization={stack}"]
    done = subprocess.run(
        [
            *command,
            "hardware=cpu",
            "timing=off",
            "recipe=random",
            "workload=smoke",
            "workload.new_tokens=8",
            "report=[markdown]",
        ],
        cwd=tmp_path,
        # Nothing is timed, so nobody's lock on the device need be waited for.
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    report = next((tmp_path / "reports").rglob("report.md")).read_text()
    assert place in report.replace("\\", "")
    assert place in done.stdout
