"""Describe the machine: devices, environment, cores, child processes."""
