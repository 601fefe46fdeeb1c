"""Which checks of a record were made with which weights: what is not of random ones says so in its name."""

from __future__ import annotations

from harness.records.checks import Check, Divergence
from harness.records.weight_recipe import WeightRecipe

_PREFIX = "trained-like: "


def labeled(check: Check, recipe: WeightRecipe) -> Check:
    """Return the check with its recipe in its name."""
    return check if recipe == "random" else check.model_copy(update={"name": f"{_PREFIX}{check.name}"})


def labeled_place(found: Divergence | None, recipe: WeightRecipe) -> Divergence | None:
    """As `labeled`, of where a build diverges."""
    if found is None or recipe == "random":
        return found
    return found.model_copy(update={"op": f"{_PREFIX}{found.op}"})


def recipe_of(check: Check) -> WeightRecipe:
    """Return the recipe of the weights that a check of a record was made with."""
    return "trained_like" if check.name.startswith(_PREFIX) else "random"
