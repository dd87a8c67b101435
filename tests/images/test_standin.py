"""Steps of the recipes on a device that stands in for a GPU: all is on the device, and the host waits for nothing that it need not know."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.msn import MSN
from anyview.testing.accelerator import slot_cells, verdict_on
from anyview.testing.grid import objectives
from anyview_images.datasets import ImageSource
from anyview_images.recipes.multicrop import multicrop
from anyview_images.recipes.pair import pair
from anyview_images.resnet import ResNet
from anyview_images.views import AUGMENTATIONS
from anyview_images.vision_transformer import VisionTransformer

WAITS = {
    "core/mixed_barlow_twins": {"mix.py"},  # one number per step seeds numpy's Beta: torch's takes no generator
    "core/myow": {"myow.py"},  # how many rows other ranks have, and whether each row has a candidate
    "core/w_mse": {"w_mse.py"},  # whether rows can be whitened is told by name, not by NaN
    "core/i_jepa": {"blocks.py", "view.py"},  # the length of the shortest context in the batch
    "core/ibot": {"ibot.py", "backward"},  # every sample hides another number of tokens
    "core/masked_columns": {"masked_columns.py", "backward"},  # as do masks over entries of tables
    "timeseries/temporal_contrast": {"temporal_contrast.py"},  # how many tokens of a view are summed up
}
"""Objectives that let the host wait in a step for what their data decide, and the files in which they do; backward: in torch's own."""


COLOURS = ImageSource(torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8))
SMALL: dict[str, Any] = {"encoder": functools.partial(ResNet, depth=10, widths=(8,), stem="strided"), "batch_size": 12, "epochs": 1}
SMALL |= {"objective": functools.partial(BarlowTwins, width=8)}
PATCHES = functools.partial(VisionTransformer, patch=4, dim=8, depth=1, heads=2)


def found() -> dict[str, str]:
    """Verdicts on every augmentation, and on every objective in every recipe that takes it, by what was tried."""
    made = {f"augmentation {name}": pair(COLOURS, augmentation=name, **SMALL) for name in AUGMENTATIONS}
    made["style"] = pair(COLOURS, style=(0.1, 0.3), **SMALL)
    masked = functools.partial(MSN, hidden=8, width=8, prototypes=8)
    crops = {"local_size": 8, "locals": 1, "batch_size": 12, "epochs": 1}
    made["masked crops"] = multicrop(COLOURS, encoder=PATCHES, objective=masked, **crops)
    verdicts = {what: verdict_on(recipe.stages[0], recipe.source) for what, recipe in made.items()}
    return verdicts | {f"{recipe} {objective}": verdict for recipe, objective, verdict in slot_cells(["images"])}


@pytest.fixture(scope="module")
def verdicts(elsewhere: Callable[..., dict[str, str]]) -> dict[str, str]:
    """What was found, by what was tried."""
    return elsewhere(found)


def test_every_augmentation_is_made_on_the_device(verdicts: dict[str, str]) -> None:
    tried = [*(f"augmentation {name}" for name in AUGMENTATIONS), "style", "masked crops"]
    assert {what: verdicts[what] for what in tried} == dict.fromkeys(tried, "ok")


@pytest.mark.parametrize("name", objectives())
def test_every_objective_steps_on_the_device(verdicts: dict[str, str], name: str) -> None:
    found = {what: verdict for what, verdict in verdicts.items() if what.startswith("images/") and what.split(" ")[1] == name}
    if not found:
        pytest.skip("no recipe of images takes it")
    for verdict in found.values():
        assert verdict == "ok" or verdict.startswith("waits at "), verdict
        assert set(re.findall(r"[\w.]+py|backward", verdict)) == WAITS.get(name, set())
