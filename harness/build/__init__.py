"""Build the thing under test and its reference: registry, weights, inputs, ranks."""
