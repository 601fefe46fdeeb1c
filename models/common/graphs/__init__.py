"""Decode steps and prompts captured as CUDA graphs or compiled."""
