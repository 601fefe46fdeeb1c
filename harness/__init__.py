"""Inference-PIO: is this optimization right, is it faster, and may it ship?"""
