"""The launch shapes of Qwen3-4B's decode steps; its kernels are those of `models.common`."""
