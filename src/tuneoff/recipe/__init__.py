"""A recipe: what to compare, as typed and checked values."""

from tuneoff.recipe.evaluation import KeepSpec
from tuneoff.recipe.load import (
    LoadedRecipe,
    load_recipe,
    read_recipe,
    recipe_of,
    resolved_recipe,
    with_ranks,
    write_recipe,
)
from tuneoff.recipe.schema import Recipe, Words
from tuneoff.recipe.shipped import shipped_recipes
from tuneoff.recipe.trials import Trial, trials

__all__ = [
    "KeepSpec",
    "LoadedRecipe",
    "Recipe",
    "Trial",
    "Words",
    "load_recipe",
    "read_recipe",
    "recipe_of",
    "resolved_recipe",
    "shipped_recipes",
    "trials",
    "with_ranks",
    "write_recipe",
]
