"""The kernels of the vision tower, and the launch shapes of the language model's decode steps."""
