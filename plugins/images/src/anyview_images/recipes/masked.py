"""Images with patches hidden, and any objective that predicts what they held, or what a teacher makes of them.

With `core/masked_reconstruction` this is the masked autoencoder, with `core/data2vec` data2vec, with `core/i_jepa` I-JEPA: what the
objective needs decides what is hidden and how. Single patches are hidden where the encoder leaves them out, blocks of neighbours where it
shows a token in their place; where targets are blocks, a context is shown and the rest left out.
"""

from __future__ import annotations

import functools

from anyview.objectives.masked_reconstruction import MaskedReconstruction
from anyview.objectives.objective import Needs, ObjectiveSlot
from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Cosine
from anyview.views.blocks import ContextTargets, MaskGrid
from anyview.views.maker import ViewMaker
from anyview_images.datasets import open_images
from anyview_images.networks import EncoderSlot, check_reads, make_encoder, needs_of, sides, token_grid
from anyview_images.optimizers import OptimizerName, make_optimizer
from anyview_images.views import AugmentationName, Transformed, augmentation_row
from anyview_images.vision_transformer import VisionTransformer, patchify

TINY = functools.partial(VisionTransformer, patch=2, dim=96, depth=2, heads=4, pool="mean")
NARROW = functools.partial(VisionTransformer, patch=7, dim=128, depth=3, heads=4, pool="mean")
SMALL_DECODER = functools.partial(MaskedReconstruction, width=64, depth=1, heads=4)
PRESETS: Presets = {
    "digits": {"encoder": TINY, "augmentation": "digits", "mask_rate": 0.5, "batch_size": 128, "epochs": 30, "lr": 5e-3},
    "mnist": {"encoder": NARROW, "augmentation": "digits", "batch_size": 128, "epochs": 20, "lr": 2e-3},
}
RANGES = {"lr": LogUniform(1e-4, 1e-2), "weight_decay": LogUniform(1e-3, 0.2), "mask_rate": Uniform(0.4, 0.85)}


@recipe(presets=PRESETS, views=(MaskGrid, ContextTargets), ranges=RANGES)
def masked(
    data: str = "digits",
    *,
    encoder: EncoderSlot = VisionTransformer,
    size: int | None = None,
    augmentation: AugmentationName = "crops",
    flip: float | None = None,
    scale: tuple[float, float] | None = None,
    mask_rate: float | None = None,
    targets: int = 4,
    objective: ObjectiveSlot = SMALL_DECODER,
    epochs: int = 400,
    batch_size: int = 256,
    optimizer: OptimizerName = "adamw",
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: int = 40,
    clip: float | None = None,
    accumulate: int = 1,
) -> Recipe:
    """Images with patches hidden, a vision transformer, and any objective that predicts what they held.

    Args:
        data: a data set's name, a folder of pictures, a .npz or an idx file
        encoder: any encoder that makes tokens of images and reads masks
        size: pixels of a view's sides, by default those of the images (224 for a folder)
        augmentation: what is done to an image before patches are hidden, by name
        flip: how likely an image is mirrored, by default the augmentation's; 0 for what must not be
        scale: least and largest share of the image that is shown, by default the augmentation's
        mask_rate: share of the patches that is hidden; by default 0.75 where they are left out and 0.6 where a token stands for them
        targets: blocks to predict, for objectives that predict blocks from a context
        objective: any objective over masked images
        epochs: passes over the images
        batch_size: images per step, over all devices
        optimizer: which optimiser
        lr: learning rate, at its highest
        weight_decay: the optimiser's
        warmup: steps of linear warm-up before the cosine
        clip: largest gradient norm
        accumulate: batches per optimiser step
    """
    source = open_images(data, size=size or 224)
    channels, pixels = sides(source.shape, size)
    needs = needs_of(objective)
    network = make_encoder(encoder, channels, needs)
    check_reads(network, channels, source.shape["height"], source.shape["width"])
    grid = token_grid(network, channels, pixels, drop=needs.drops)
    transform = augmentation_row(augmentation, flip=flip, scale=scale).transform(pixels)
    views = Transformed(transform, _masks(needs, grid, pixels, mask_rate, targets))
    stage = Stage(
        tasks=[Task(views, objective(network.dim))],
        encoder=network,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=make_optimizer(optimizer, lr, weight_decay),
        schedule=Cosine(warmup=warmup),
        clip=clip,
        accumulate=accumulate,
    )
    return Recipe(source=source, stages=[stage], embedder=stage.embedder)


def _masks(needs: Needs, grid: tuple[int, int], pixels: int, rate: float | None, targets: int) -> ViewMaker:
    """The view maker that hides what the objective predicts."""
    if "context" in needs.roles:
        return ContextTargets(grid=grid, targets=targets)
    rate = rate if rate is not None else 0.75 if needs.drops else 0.6
    patches = functools.partial(patchify, patch=pixels // grid[0])
    return MaskGrid(rate, shape="random" if needs.drops else "blocks", grid=grid, patches=patches, drop=needs.drops)
