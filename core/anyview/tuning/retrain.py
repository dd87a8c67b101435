"""Training on the validation part too, once it has chosen: for the passes over the data that it chose, on more of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anyview.data.source import Source
from anyview.errors import UserError
from anyview.recipe import Recipe, RecipeFunction
from anyview.schedules import Constant, Schedule
from anyview.tuning.judge import Judge, OwnValidation


def check_retrain(function: RecipeFunction, recipe: Recipe, judge: Judge, data: Any) -> None:
    """Raise UserError unless a recipe can be trained anew on all of its training data, for as long as validation chose.

    It needs a validation score of its own in its only stage; parameters `epochs` and `reading`; data that is read anew, whose source says
    how its validation part joins the training part; and learning rates and weights that do not follow the length of training.
    """
    if not isinstance(judge, OwnValidation):
        asked = "--retrain takes the number of epochs that validation chose"
        raise UserError(f"{asked}, and trials are judged by {judge.name}; leave one of the two out")
    lacks = [name for name in ("epochs", "reading") if name not in function.signature.parameters]
    if lacks or recipe.source.all_training is None or len(recipe.stages) > 1:
        asked = f"--retrain joins the validation part of {recipe.source.name!r} and its training part"
        raise UserError(f"{asked}, and {recipe.name} or its data does not say how; leave it out")
    if not isinstance(data, str | Path):
        raise UserError("--retrain reads the data anew, with its validation part in training, and it lies in memory; give a name or a path")
    stage = recipe.stages[0]
    scheduled = [task for task in stage.tasks if isinstance(task.weight, Schedule) and not isinstance(task.weight, Constant)]
    if not isinstance(stage.schedule, Constant) or scheduled:
        asked = f"{recipe.name} follows a schedule over all its epochs"
        raise UserError(f"{asked}, and fewer would not be the training that was stopped; leave --retrain out")


def retrained(values: Mapping[str, Any], source: Source, passes: Sequence[int]) -> dict[str, Any]:
    """A recipe's values for training on all of the training data. passes: how many were best, by seed; the (lower) median is taken."""
    reading = {**(values.get("reading") or {}), **(source.all_training or {})}
    return {**values, "reading": reading, "epochs": max(1, statistics.median_low(passes))}
