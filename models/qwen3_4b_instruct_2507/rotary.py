"""Qwen3-4B rotates a whole head of 128 channels, at base 5e6, behind a norm of every head."""

from __future__ import annotations

from models.common.rotary.optimization import fused_rotary

ROTARY = fused_rotary()
