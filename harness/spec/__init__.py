"""What the harness knows of a model, and all that a model knows of the harness beside its errors."""
