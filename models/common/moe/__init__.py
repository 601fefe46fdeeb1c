"""Experts: routing, and products of few and of many tokens."""
