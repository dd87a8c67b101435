"""Training steps on a device that stands in for a GPU, in a process of their own: a line "what<tab>verdict" for each.

What cannot go well is there too, to show that it is found.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.msn import MSN
from anyview.recipe import Recipe
from anyview.testing.accelerator import cells, verdict_on
from anyview.views.draws import Draws
from anyview.views.maker import ViewMaker
from anyview.views.view import ViewSet
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


class Changed(ViewMaker):
    """A maker whose views are changed afterwards."""

    def __init__(self, maker: ViewMaker, change: Any) -> None:
        self.maker, self.change, self.gives = maker, change, maker.gives

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        views = self.maker(batch, draws)
        views.views[0].data = self.change(views.views[0].data)
        return views


def waits(images: Tensor) -> Tensor:
    return images / float(images.max())


BROKEN = {
    "host tensor": lambda images: images + torch.ones(16),
    "copy": lambda images: images + torch.ones(16).to(images),
    "host reads": waits,
    "host draws": lambda images: images + torch.rand(16, device=images.device, generator=torch.Generator()),
}


def tell(what: str, recipe: Recipe, change: Any = None) -> None:
    """Print the verdict on a recipe's step."""
    stage = recipe.stages[0]
    if change is not None:
        stage.tasks[0].views = Changed(stage.tasks[0].views, change)
    print(f"{what}\t{verdict_on(stage, recipe.source)}", flush=True)


def main() -> None:
    """All of them."""
    for name in AUGMENTATIONS:
        tell(f"augmentation {name}", pair(COLOURS, augmentation=name, **SMALL))
    tell("style", pair(COLOURS, style=(0.1, 0.3), **SMALL))
    masked = functools.partial(MSN, hidden=8, width=8, prototypes=8)
    crops = {"local_size": 8, "locals": 1, "batch_size": 12, "epochs": 1}
    tell("masked crops", multicrop(COLOURS, encoder=PATCHES, objective=masked, **crops))
    for name, change in BROKEN.items():
        tell(f"broken: {name}", pair(COLOURS, **SMALL), change)
    for recipe, objective, verdict in cells(["images"]):
        print(f"{recipe} {objective}\t{verdict}", flush=True)


if __name__ == "__main__":
    main()
