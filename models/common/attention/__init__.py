"""Attention over cached keys: eager, prefill and decode kernels, one-launch decode step."""
