"""Ahead-of-time compilation, in a process of its own: this one may interpret Triton."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import dataclasses, json, sys
import torch, triton, triton.language as tl
from harness.errors import HarnessError
from harness.parity.kernels.compile_ahead import SHARED_BYTES, compile_ahead
from harness.spec.kernel import Compilation, Cost, Kernel

@triton.autotune([triton.Config({}, num_warps=4)], key=["n"])
@triton.jit
def product(x, w, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = i[:, None] * n + i[None, :]
    tl.store(out + at, tl.dot(tl.load(x + at), tl.load(w + at)).to(out.dtype.element_ty))

@triton.jit
def broken(x, BLOCK: tl.constexpr):
    tl.store(x + tl.arange(0, BLOCK), undefined_name)

def kernel(function, signature, **constants):
    made = Compilation(function, signature, constants)
    return Kernel("made", None, None, None, lambda **_: Cost(0, 0), lambda dtype: (made,))

pointers = {name: "*bf16" for name in ("x", "w", "out")}
good = kernel(product, {**pointers, "n": "i32"}, BLOCK=64)
cases = {
    "good": good,
    "broken": kernel(broken, {"x": "*fp32"}, BLOCK=16),
    "no power of two": kernel(broken, {"x": "*fp32"}, BLOCK=17),
    "misdeclared": kernel(product, {**pointers, "BLOCK": "i32", "m": "i32"}),
}
said = {}
for name, case in cases.items():
    try:
        said[name] = [made.label() for made in compile_ahead([case], torch.bfloat16)]
    except HarnessError as error:
        said[name] = str(error)
SHARED_BYTES[90] = 100
try:
    compile_ahead([good], torch.bfloat16)
except HarnessError as error:
    said["too large"] = str(error)
print(json.dumps(said))
"""


def run(tmp_path: Path, **extra: str) -> dict[str, object]:
    script = tmp_path / "kernels.py"
    script.write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path / "cache")} | extra
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_bfloat16_kernel_compiles_without_a_gpu_and_a_broken_one_is_named(tmp_path):
    said = run(tmp_path)
    (label,) = said["good"]
    assert label.startswith("made/product bfloat16 sm_90: ")
    assert label.endswith(" B shared, wgmma")
    assert int(label.split(": ")[1].split()[0]) >= 2 * 64 * 64 * 2
    for name in ("broken", "no power of two"):
        assert said[name].startswith("kernel made: broken for torch.bfloat16 does not compile for sm_90")
    assert said["misdeclared"].endswith("unknown: m; missing: n; constexpr without a value: BLOCK")
    assert "sm_90 has 100" in said["too large"]


def test_an_interpreting_process_is_refused(tmp_path):
    said = run(tmp_path, TRITON_INTERPRET="1")
    assert "TRITON_INTERPRET is set" in said["good"]
