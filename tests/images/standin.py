"""Training steps on a device that stands in for a GPU, in a process of their own: a line "what<tab>verdict" for each."""

from __future__ import annotations

import functools
from typing import Any

import torch

from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.msn import MSN
from anyview.recipe import Recipe
from anyview.testing.accelerator import slot_cells, verdict_on
from anyview_images.datasets import ImageSource
from anyview_images.recipes.multicrop import multicrop
from anyview_images.recipes.pair import pair
from anyview_images.resnet import ResNet
from anyview_images.views import AUGMENTATIONS
from anyview_images.vision_transformer import VisionTransformer

COLOURS = ImageSource(torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8))
SMALL: dict[str, Any] = {"encoder": functools.partial(ResNet, depth=10, widths=(8,), stem="strided"), "batch_size": 12, "epochs": 1}
SMALL |= {"objective": functools.partial(BarlowTwins, width=8)}
PATCHES = functools.partial(VisionTransformer, patch=4, dim=8, depth=1, heads=2)


def tell(what: str, recipe: Recipe) -> None:
    """Print the verdict on a recipe's steps."""
    print(f"{what}\t{verdict_on(recipe.stages[0], recipe.source)}", flush=True)


def main() -> None:
    """All of them."""
    for name in AUGMENTATIONS:
        tell(f"augmentation {name}", pair(COLOURS, augmentation=name, **SMALL))
    tell("style", pair(COLOURS, style=(0.1, 0.3), **SMALL))
    masked = functools.partial(MSN, hidden=8, width=8, prototypes=8)
    crops = {"local_size": 8, "locals": 1, "batch_size": 12, "epochs": 1}
    tell("masked crops", multicrop(COLOURS, encoder=PATCHES, objective=masked, **crops))
    for recipe, objective, verdict in slot_cells(["images"]):
        print(f"{recipe} {objective}\t{verdict}", flush=True)


if __name__ == "__main__":
    main()
