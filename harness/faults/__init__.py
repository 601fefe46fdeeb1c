"""The gate proven able to fail: planted faults, and which level of the gate saw each (docs/method.md 1.6)."""
