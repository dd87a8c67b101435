"""Two augmented views of each image, and any objective between them.

The views are those that the joint-embedding methods were published with, by name: with `core/simclr` and the augmentation "symmetric" this
is SimCLR, with `core/byol` and "asymmetric" BYOL. The encoder is a slot too.
"""

from __future__ import annotations

import functools

from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import ObjectiveSlot
from anyview.ranges import LogUniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Cosine
from anyview_images.datasets import open_images
from anyview_images.networks import EncoderSlot, check_reads, make_encoder, needs_of, sides
from anyview_images.optimizers import OptimizerName, make_optimizer
from anyview_images.resnet import ResNet
from anyview_images.views import AugmentationName, AugmentedPair

NARROW = functools.partial(ResNet, depth=10, widths=(16, 32, 128), stem="strided")
TINY = functools.partial(ResNet, depth=10, widths=(16, 32), stem="small")
SMALL = functools.partial(ResNet, depth=18, stem="small")
SMALL_BARLOW_TWINS = functools.partial(BarlowTwins, width=256, redundancy=1 / 256)
CIFAR = {
    "encoder": SMALL,
    "augmentation": "asymmetric_small",
    "objective": functools.partial(BarlowTwins, width=2048, redundancy=0.005),
    "epochs": 200,
    "lr": 0.12,
    "weight_decay": 5e-4,
    "warmup": 1000,
    "clip": None,
}
PRESETS: Presets = {
    "digits": {"encoder": TINY, "augmentation": "digits", "batch_size": 128, "epochs": 30},
    "mnist": {"encoder": NARROW, "augmentation": "digits", "batch_size": 128, "epochs": 10},
    "cifar10": CIFAR,
    "cifar100": CIFAR,
    "demo": {"data": "digits", "epochs": 15},
}
RANGES = {"lr": LogUniform(1e-2, 1.0), "weight_decay": LogUniform(1e-6, 1e-3), "objective.redundancy": LogUniform(1e-4, 5e-2)}


@recipe(presets=PRESETS, views=AugmentedPair, ranges=RANGES)
def pair(
    data: str = "digits",
    *,
    encoder: EncoderSlot = ResNet,
    size: int | None = None,
    augmentation: AugmentationName = "asymmetric",
    flip: float | None = None,
    scale: tuple[float, float] | None = None,
    style: tuple[float, float] | None = None,
    objective: ObjectiveSlot = SMALL_BARLOW_TWINS,
    epochs: int = 100,
    batch_size: int = 256,
    optimizer: OptimizerName = "sgd",
    lr: float = 0.1,
    weight_decay: float = 1e-4,
    warmup: int = 20,
    clip: float | None = 1.0,
    accumulate: int = 1,
) -> Recipe:
    """Two augmented views of each image, an encoder of images, and any objective between them.

    Args:
        data: a data set's name, a folder of pictures, a .npz or an idx file
        encoder: any encoder of images
        size: pixels of a view's sides, by default those of the images (224 for a folder)
        augmentation: what is done to the views, by name
        flip: how likely a view is mirrored, by default the augmentation's; 0 for what must not be
        scale: least and largest share of the image that a view shows, by default the augmentation's
        style: give all images of a view one image's low frequencies, this least and largest share of the spectrum
        objective: any objective over two views
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
    network = make_encoder(encoder, channels, needs_of(objective))
    for height, width in dict.fromkeys([(source.shape["height"], source.shape["width"]), (pixels, pixels)]):
        check_reads(network, channels, height, width)
    views = AugmentedPair(pixels, augmentation=augmentation, flip=flip, scale=scale, style=style)
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
