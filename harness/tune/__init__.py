"""Measure launch shapes with the clock that verdicts use."""
