"""How the random weights are made that a build is judged with, by name."""

from __future__ import annotations

from typing import Literal

WeightRecipe = Literal["random", "trained_like"]
"""`random`: drawn, norms and biases perturbed. `trained_like`: made to show what trained weights show. A case that
names the latter is judged with both."""
