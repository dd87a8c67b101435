"""Two large views of each image and several small ones, and any objective between them.

With `core/swav` this is SwAV, with `core/dino` DINO. Objectives that read masks, as `core/ibot` and `core/msn`, get the large views with
patches hidden, and their clean twins; the encoder is then a vision transformer.
"""

from __future__ import annotations

import functools
from typing import Any

from anyview.errors import UserError
from anyview.objectives.objective import MismatchError, Needs, ObjectiveSlot
from anyview.objectives.swav import SwAV
from anyview.ranges import LogUniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Cosine
from anyview.views.maker import ViewMaker
from anyview_images.datasets import open_images
from anyview_images.networks import EncoderSlot, Normalised, check_reads, make_encoder, needs_of, sides, token_grid
from anyview_images.optimizers import OptimizerName, make_optimizer
from anyview_images.recipes.pair import NARROW, TINY
from anyview_images.resnet import ResNet
from anyview_images.views import AugmentationName, AugmentedCrops, MaskedCrops

SMALL_SWAV = functools.partial(SwAV, hidden=256, width=64, prototypes=20, temperature=0.2)
PRESETS: Presets = {
    "digits": {
        "encoder": TINY,
        "augmentation": "digits",
        "local_size": 6,
        "locals": 2,
        "scale": (0.7, 1.0),
        "local_scale": (0.4, 0.7),
        "batch_size": 128,
        "epochs": 20,
        "optimizer": "sgd",
        "lr": 0.2,
    },
    "mnist": {
        "encoder": NARROW,
        "augmentation": "digits",
        "local_size": 16,
        "locals": 2,
        "scale": (0.7, 1.0),
        "local_scale": (0.4, 0.8),
        "batch_size": 128,
        "epochs": 6,
        "optimizer": "sgd",
        "lr": 0.2,
    },
}
RANGES = {"lr": LogUniform(1e-4, 0.3), "weight_decay": LogUniform(1e-6, 1e-2), "objective.temperature": LogUniform(0.05, 0.3)}


@recipe(presets=PRESETS, views=(AugmentedCrops, MaskedCrops), ranges=RANGES)
def multicrop(
    data: str = "digits",
    *,
    encoder: EncoderSlot = ResNet,
    size: int | None = None,
    local_size: int = 96,
    locals: int = 6,
    scale: tuple[float, float] = (0.14, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.14),
    augmentation: AugmentationName = "asymmetric",
    flip: float | None = None,
    style: tuple[float, float] | None = None,
    mask_rate: tuple[float, float] | None = None,
    objective: ObjectiveSlot = SMALL_SWAV,
    epochs: int = 100,
    batch_size: int = 256,
    optimizer: OptimizerName = "adamw",
    lr: float = 1e-3,
    weight_decay: float = 1e-4,
    warmup: int = 20,
    clip: float | None = 3.0,
    accumulate: int = 1,
) -> Recipe:
    """Two large views of each image and several small ones, an encoder of images, and any objective between them.

    Args:
        data: a data set's name, a folder of pictures, a .npz or an idx file
        encoder: any encoder of images of more than one size
        size: pixels of a large view's sides, by default those of the images (224 for a folder)
        local_size: pixels of a small view's sides
        locals: small views of each image
        scale: least and largest share of the image that a large view shows; DINO's is 0.4 to 1
        local_scale: least and largest share of the image that a small view shows; DINO's is 0.05 to 0.4
        augmentation: what is done to the views, by name
        flip: how likely a view is mirrored, by default the augmentation's; 0 for what must not be
        style: give all images of a view one image's low frequencies, this least and largest share of the spectrum
        mask_rate: least and largest share of a large view's patches that is hidden, where the objective reads masks; by default iBOT's,
            0.1 to 0.5, or MSN's, 0.15, where they are left out
        objective: any objective over large and small views
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
    if needs.masks and not _reads(needs, network):
        lacks = "an encoder that reads masks"
        pair = f"{MaskedCrops.__name__} with {type(network.encoder).__name__}"
        sentence = f"the objective needs {lacks}, which {pair} does not give; choose --encoder images/vision_transformer"
        raise MismatchError(sentence, [lacks])
    shown = [(source.shape["height"], source.shape["width"]), (pixels, pixels), *([(local_size, local_size)] if locals else [])]
    for height, width in dict.fromkeys(shown):
        check_reads(network, channels, height, width)
    crops: dict[str, Any] = {
        "local_size": local_size,
        "locals": locals,
        "scale": scale,
        "local_scale": local_scale,
        "flip": flip,
        "style": style,
    }
    if mask_rate is None and not _masked(needs, network):
        views: ViewMaker = AugmentedCrops(pixels, augmentation=augmentation, **crops)
    else:
        crops |= {**_masks(needs, mask_rate), "grid": token_grid(network, channels, pixels, drop=needs.drops)}
        views = MaskedCrops(pixels, augmentation=augmentation, **crops)
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


def _masked(needs: Needs, network: Normalised) -> bool:
    """Whether large views are masked: where the objective must have it, or likes to leave patches out and the encoder can."""
    return needs.masks or (needs.drops and _reads(needs, network))


def _reads(needs: Needs, network: Normalised) -> bool:
    """Whether the encoder reads masks of the kind that the objective likes best."""
    return ("drop" if needs.drops else "token") in network.masks


def _masks(needs: Needs, rate: tuple[float, float] | None) -> dict[str, Any]:
    if not (needs.masks or needs.drops):
        raise UserError("a mask rate was given, and the objective reads no masks; leave it out")
    if needs.drops:
        return {"drop": True, "rate": rate or (0.15, 0.15), "probability": 1.0}
    return {"rate": rate or (0.1, 0.5)}
