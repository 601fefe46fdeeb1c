"""Faults of decoder-only models, planted in a built instance through the names that its mechanisms give.

Every fault wraps the `forward` of a module or replaces a value it holds, so that it fits the eager modules and the
fused ones that take their place. Weights are shared with the right model: a fault replaces a parameter and never writes
to it. A mechanism that is not here (a vision tower, a prefix tree, shards) declares a tuple of `Mutant` values of its
own, and a model lists the tuples that are true of it in `ModelSpec.mutants`.
"""
