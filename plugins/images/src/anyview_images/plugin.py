"""Images: what this plugin brings; nothing is imported until it is used."""

from __future__ import annotations

from anyview.plugins import hookimpl

api = 1
install = "anyview[images]"


@hookimpl
def recipes() -> dict[str, str]:
    """Pairs of views, crops of two sizes, hidden patches; each with a slot for an objective and one for an encoder."""
    names = ("pair", "multicrop", "masked")
    return {name: f"anyview_images.recipes.{name}:{name}" for name in names}


@hookimpl
def encoders() -> dict[str, str]:
    """Networks that read images (B, C, H, W)."""
    return {"resnet": "anyview_images.resnet:ResNet", "vision_transformer": "anyview_images.vision_transformer:VisionTransformer"}


@hookimpl
def views() -> dict[str, str]:
    """Augmented views of images."""
    return {
        "pair": "anyview_images.views:AugmentedPair",
        "crops": "anyview_images.views:AugmentedCrops",
        "masked_crops": "anyview_images.views:MaskedCrops",
    }


@hookimpl
def datasets() -> dict[str, str]:
    """Images by name; a path to the user's own works everywhere as well."""
    names = ("digits", "mnist", "coil20", "cifar10", "cifar100")
    return {name: f"anyview_images.datasets:{name}" for name in names}
