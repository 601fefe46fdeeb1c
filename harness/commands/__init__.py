"""The commands of `python -m harness`, one a file."""
