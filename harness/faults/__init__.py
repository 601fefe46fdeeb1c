"""The gate proven able to fail: faults planted on purpose, and which level of the gate saw each (METHOD 1.6)."""
