"""The pytest plugins of the test suite."""
