"""Views of images: the augmentations that the methods were published with, as a table, and the pairs and crops made from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from anyview.data.source import Batch
from anyview.errors import UserError, unknown
from anyview.views.blocks import block_mask, kept_tokens, random_mask
from anyview.views.draws import Draws
from anyview.views.maker import Gives, Transform, ViewMaker
from anyview.views.multi_crop import MaskedViews, MultiCrop
from anyview.views.pair import Chain, Pair, apply
from anyview.views.view import ViewSet
from anyview_images.batch_style import BatchStyle
from anyview_images.colour import ColourJitter, GaussianBlur, Grey, Solarise
from anyview_images.geometry import RandomAffine, RandomResizedCrop

Range = tuple[float, float]
AugmentationName = Literal[
    "asymmetric", "asymmetric_small", "symmetric", "symmetric_weak", "vicreg_small", "w_mse_small", "digits", "crops"
]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to an image, as a row of the table below; pairs are for the first view and for all others.

    scale: share of the area that a crop shows. jitter: strengths of brightness, contrast, saturation and hue; jitter_probability: how
    likely. grey, blur, solarise, flip: how likely. sigma: of the blur, in pixels. degrees, zoom, shift: of a turn about the centre before
    the crop, see RandomAffine; none where all are 0. style: least and largest share of the spectrum that all images of a view take from one
    of them (BatchStyle); jitter is then drawn once per view. None: no such style.
    """

    scale: Range = (0.08, 1.0)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    jitter_probability: float = 0.8
    grey: float = 0.2
    blur: Range = (0.0, 0.0)
    sigma: Range = (0.1, 2.0)
    solarise: Range = (0.0, 0.0)
    flip: float = 0.5
    degrees: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    style: Range | None = None

    def transform(self, size: int, number: int = 0) -> Chain:
        """The transform that makes view `number` (0 is the first), `size` pixels wide and high, of images (B, C, H, W)."""
        other = min(number, 1)
        steps: list[Transform] = []
        if self.degrees or self.zoom or self.shift:
            steps.append(RandomAffine(self.degrees, scale=(1 - self.zoom, 1 + self.zoom), shift=self.shift))
        steps.append(RandomResizedCrop(size, scale=self.scale, flip=self.flip))
        if self.style is not None:
            steps.append(BatchStyle(self.style))
        if self.jitter_probability and any(self.jitter):
            steps.append(ColourJitter(*self.jitter, probability=self.jitter_probability, shared=self.style is not None))
        if self.grey:
            steps.append(Grey(self.grey))
        if self.blur[other]:
            steps.append(GaussianBlur(self.blur[other], sigma=self.sigma))
        if self.solarise[other]:
            steps.append(Solarise(self.solarise[other]))
        return Chain(*steps)


STRONG = (0.8, 0.8, 0.8, 0.2)
AUGMENTATIONS: dict[str, Augmentation] = {
    "asymmetric": Augmentation(blur=(1.0, 0.1), solarise=(0.0, 0.2)),
    "asymmetric_small": Augmentation(solarise=(0.0, 0.2)),
    "symmetric": Augmentation(jitter=STRONG, blur=(0.5, 0.5)),
    "symmetric_weak": Augmentation(jitter=(0.4, 0.4, 0.4, 0.1), blur=(0.5, 0.5)),
    "vicreg_small": Augmentation(scale=(0.2, 1.0), solarise=(0.1, 0.1)),
    "w_mse_small": Augmentation(scale=(0.2, 1.0), jitter=STRONG),
    "digits": Augmentation(scale=(0.7, 1.0), jitter=(0.4, 0.4, 0.0, 0.0), grey=0.0, flip=0.0, degrees=10.0, zoom=0.1, shift=0.05),
    "crops": Augmentation(scale=(0.2, 1.0), jitter_probability=0.0, grey=0.0),
}
"""Published augmentations by name: "asymmetric" is that of BYOL, Barlow Twins, VICReg, NNCLR, MoCo v3 and DINO, and without blur, as
"asymmetric_small", theirs for images of 32 pixels; "symmetric" that of SimCLR, SwAV and DeepCluster-v2; "symmetric_weak" that of SimSiam
and MoCo v2; "vicreg_small" and "w_mse_small" those of VICReg and W-MSE for images of 32 pixels; "crops" that of masked autoencoders.
"digits" is ours, for what must not be mirrored."""


def augmentation_row(name: str, **changes: Any) -> Augmentation:
    """A row of the table, with changes; None changes nothing. Raises UserError for a name that is not in it, and for no probability.

    >>> augmentation_row("symmetric", flip=0.0).flip
    0.0
    """
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS, look="anyview list views images/")
    row = replace(AUGMENTATIONS[name], **{key: value for key, value in changes.items() if value is not None})
    if not 0 <= row.flip <= 1:
        raise UserError(f"flip is a probability, and {row.flip:g} was given; give a number from 0 to 1")
    return row


class AugmentedPair(Pair):
    """Two augmented views of every image, by an augmentation of the table.

    size: pixels of a view's sides. augmentation: its name. flip: how likely a view is mirrored, scale: least and largest share of the area
    that it shows; None: the table's. style: see Augmentation.

    Data is images (B, C, H, W), uint8 or float in [0, 1]; views are (B, C, size, size), float, and record the parameters of their making:
    "box", and where the augmentation has it "jitter", "grey", "blur", "solarise", "affine", "style" and "ratio". With "affine" the box lies
    in the moved image.

    >>> views = AugmentedPair(16)(Batch(torch.rand(4, 3, 32, 32), 4), Draws.seeded(0, total=4)).views
    >>> [tuple(view.data.shape) for view in views], sorted(views[1].params)
    ([(4, 3, 16, 16), (4, 3, 16, 16)], ['blur', 'box', 'grey', 'jitter', 'solarise'])
    """

    def __init__(
        self,
        size: int = 224,
        *,
        augmentation: AugmentationName = "asymmetric",
        flip: float | None = None,
        scale: Range | None = None,
        style: Range | None = None,
    ) -> None:
        row = augmentation_row(augmentation, flip=flip, scale=scale, style=style)
        super().__init__(row.transform(size, 0), row.transform(size, 1))


class AugmentedCrops(MultiCrop):
    """Two augmented views of every image that show much of it, and several small ones that show little.

    size, local_size: pixels of their sides. locals: how many small ones. scale, local_scale: least and largest share of the area that they
    show; SwAV's by default, DINO's are (0.4, 1) and (0.05, 0.4). augmentation, flip, style: as in AugmentedPair; small views take what is
    done to the whole ones, without solarisation, and with a blur of probability one half where the augmentation blurs at all.

    >>> views = AugmentedCrops(32, local_size=16, locals=1)(Batch(torch.rand(4, 3, 32, 32), 4), Draws.seeded(0, total=4)).views
    >>> [(view.role, view.data.shape[-1]) for view in views]
    [('global', 32), ('global', 32), ('local', 16)]
    """

    def __init__(
        self,
        size: int = 224,
        *,
        local_size: int = 96,
        locals: int = 6,
        scale: Range = (0.14, 1.0),
        local_scale: Range = (0.05, 0.14),
        augmentation: AugmentationName = "asymmetric",
        flip: float | None = None,
        style: Range | None = None,
    ) -> None:
        row = augmentation_row(augmentation, flip=flip, scale=scale, style=style)
        local = replace(row, scale=local_scale, blur=(0.5, 0.5) if any(row.blur) else row.blur, solarise=(0.0, 0.0))
        super().__init__([row.transform(size, 0), row.transform(size, 1)], local.transform(local_size), locals)


class MaskedCrops(MaskedViews):
    """The views of AugmentedCrops with patches of the whole ones hidden, and these without masks as "clean" views at the end.

    grid: how many patches the encoder makes of a whole view, down and across. rate: least and largest share of them that is hidden. drop:
    hide single patches for encoders that leave them out, equally many in every sample; else blocks of neighbours. probability: that a
    sample's view is masked at all. The others are as in AugmentedCrops. By default iBOT's masks. Raises UserError when `drop` is asked for
    and samples would hide different numbers.

    >>> views = MaskedCrops(32, grid=(4, 4), locals=0)(Batch(torch.rand(5, 3, 32, 32), 5), Draws.seeded(0, total=5)).views
    >>> [(view.role, view.mask is not None) for view in views]
    [('global', True), ('global', True), ('clean', False), ('clean', False)]
    """

    gives = Gives(views=2, roles=("global", "local", "clean"), masks=True)

    def __init__(
        self,
        size: int = 224,
        *,
        grid: tuple[int, int] = (14, 14),
        rate: Range = (0.1, 0.5),
        drop: bool = False,
        probability: float = 0.5,
        local_size: int = 96,
        locals: int = 6,
        scale: Range = (0.14, 1.0),
        local_scale: Range = (0.05, 0.14),
        augmentation: AugmentationName = "asymmetric",
        flip: float | None = None,
        style: Range | None = None,
    ) -> None:
        if drop and (rate[0] != rate[1] or probability < 1):
            found = f"shares of {rate[0]:g} to {rate[1]:g} with probability {probability:g}"
            raise UserError(f"patches that are left out must be equally many in every view, and {found} were asked for; give one share")
        crops = AugmentedCrops(
            size,
            local_size=local_size,
            locals=locals,
            scale=scale,
            local_scale=local_scale,
            augmentation=augmentation,
            flip=flip,
            style=style,
        )
        tokens = math.prod(grid)
        hide = partial(random_mask, rate=rate[0]) if drop else partial(block_mask, rate=rate, grid=grid)
        visible = kept_tokens(tokens, rate[0]) if drop else None
        super().__init__(crops, hide, tokens=tokens, probability=probability, drop=drop, visible=visible)


class Transformed(ViewMaker):
    """Another maker's views of images that one transform has changed first: the same draw of it for all of them.

    transform: of the batch's data; what it records about the change ("box") is told by every view that does not record it itself.

    >>> from anyview.views.blocks import MaskGrid
    >>> maker = Transformed(RandomResizedCrop(8), MaskGrid(0.5, grid=(2, 2)))
    >>> views = maker(Batch(torch.rand(3, 1, 16, 16), 3), Draws.seeded(0, total=3)).views
    >>> [(view.role, tuple(view.data.shape), list(view.params)) for view in views]
    [('view', (3, 1, 8, 8), ['box']), ('clean', (3, 1, 8, 8), ['box'])]
    """

    def __init__(self, transform: Transform, maker: ViewMaker) -> None:
        self.transform, self.maker, self.gives = transform, maker, maker.gives

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        data, params = apply(self.transform, batch.data, draws)
        views = self.maker(replace(batch, data=data), draws)
        told = [replace(view, params={**params, **(view.params or {})} or None) for view in views.views]
        return replace(views, views=told)
