"""Judge the kernel of a file in float32 and float16 on a CPU, and print the rule of every broken check as JSON.

A process of its own: whether Triton interprets is settled when a kernel is imported."""

import importlib.util
import json
import sys

import torch

from harness.parity.kernels.check_kernel import check_kernel

spec = importlib.util.spec_from_file_location("judged", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
checks = [
    check
    for dtype in (torch.float32, torch.float16)
    for check in check_kernel(module.KERNEL, dtype, torch.device("cpu"), seed=0)
]
print(json.dumps({"checks": len(checks), "broken": [check.rule for check in checks if not check.passed]}))
