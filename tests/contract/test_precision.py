"""Every recipe of every installed plugin trains in bfloat16, from its first stage to the rows that it leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anyview.plugins import Component, host
from anyview.testing.grid import PRESET
from anyview.training import pretrain


@pytest.mark.parametrize("component", host().components("recipes"), ids=lambda component: component.full_name)
def test_recipe_in_bfloat16(component: Component, tmp_path: Path) -> None:
    torch.manual_seed(0)
    function = component.load()
    recipe = function(preset=PRESET if PRESET in function.presets else None)
    for stage in recipe.stages:
        stage.epochs = 1
    rows = pretrain(recipe, tmp_path / "run", precision="bf16-mixed", accelerator="cpu").embed(device="cpu")
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
