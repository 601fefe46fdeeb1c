"""The gate proven able to fail: faults planted on purpose, and which level of the gate saw each (docs/method.md, 1.6)."""
