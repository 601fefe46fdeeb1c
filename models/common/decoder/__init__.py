"""The frame of decoder-only models, its configuration and loading, and the faults that its stream can have."""
