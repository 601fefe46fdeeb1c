"""Find the fastest launch shapes of a model's decode steps, with the clock that verdicts use."""
