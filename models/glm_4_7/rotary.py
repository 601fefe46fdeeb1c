"""GLM-4.7 rotates the first 64 of a head's 128 channels, at base 1e6, behind a norm of every head."""

from __future__ import annotations

from models.common.rotary.optimization import fused_rotary

ROTARY = fused_rotary()
