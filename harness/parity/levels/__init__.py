"""The levels that a model is judged on, from one layer to free-running generation."""
