"""Mechanisms with one right meaning and no model's name in them."""
