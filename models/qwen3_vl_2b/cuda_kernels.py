"""What CUDA C++ does for Qwen3-VL-2B that Triton cannot: a decode step of attention in one launch."""

from __future__ import annotations

from models.common.attention.optimization import cluster_attention

CUDA_KERNELS = cluster_attention(rows=1, keys=4096)
"""8 clusters a step, 2 query heads to the tile of one. Its record on an H200:
benchmark_results/h200/20261128-7c62adb0-e83cfc.jsonl"""
