"""Triton kernels, each beside its eager twin, its cost and its input menu."""
