"""The kernels that only GLM-4.7 needs, and the launch shapes of its decode steps."""
