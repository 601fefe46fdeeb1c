"""The kernels that only Qwen3-Coder needs, and the launch shapes of its decode steps."""
