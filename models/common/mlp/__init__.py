"""The gated feed-forward block."""
