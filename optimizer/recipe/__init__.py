"""Recipes: a tuple of frozen steps, whose fields are the command line's options and the keys of a TOML file."""

from optimizer.recipe.images import Preprocess
from optimizer.recipe.steps import (
    GRANULARITIES,
    Bench,
    Calibration,
    Criterion,
    Finetune,
    Mode,
    Prune,
    Quantize,
    Recover,
    Run,
    Scope,
    Target,
    share,
)
from optimizer.recipe.toml import Recipe, Step, parse, text

__all__ = [
    "GRANULARITIES",
    "Bench",
    "Calibration",
    "Criterion",
    "Finetune",
    "Mode",
    "Preprocess",
    "Prune",
    "Quantize",
    "Recipe",
    "Recover",
    "Run",
    "Scope",
    "Step",
    "Target",
    "parse",
    "share",
    "text",
]
