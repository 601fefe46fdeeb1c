"""Projections: packed, and streamed for few rows."""
