"""Scripts that keep the documents of this repository true to its records and its sources."""
