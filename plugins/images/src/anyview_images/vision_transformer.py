"""The Vision Transformer: an image as a sequence of square patches.

Dosovitskiy et al. An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale. 2020, arXiv 2010.11929; sizes below the base
one: Touvron et al. Training data-efficient image transformers & distillation through attention. 2020, arXiv 2012.12877.
"""

from __future__ import annotations

from torch import Tensor, nn

from anyview.encoders.transformer import Pool, TokenTransformer
from anyview.errors import UserError


def patchify(images: Tensor, patch: int) -> Tensor:
    """Square patches of images (B, C, H, W), row by row: (B, N, C·patch·patch) with N = H/patch · W/patch.

    Raises UserError when the sides are no multiples of `patch`.

    >>> patchify(torch.arange(16).view(1, 1, 4, 4), 2)[0, 1].tolist()
    [2, 3, 6, 7]
    """
    samples, channels, height, width = images.shape
    if height % patch or width % patch:
        raise UserError(f"images of {height} x {width} cannot be cut into patches of {patch} x {patch}; choose sides that are multiples")
    tiles = images.reshape(samples, channels, height // patch, patch, width // patch, patch)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(samples, -1, channels * patch * patch)


def unpatchify(patches: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """The images (B, C, H, W) that patches (B, N, C·patch·patch) were cut from; size: (H, W).

    >>> images = torch.randn(2, 3, 4, 8)
    >>> torch.equal(unpatchify(patchify(images, 2), 2, (4, 8)), images)
    True
    """
    samples, number, numbers = patches.shape
    rows, columns = size[0] // patch, size[1] // patch
    if number != rows * columns or numbers % patch**2:
        raise UserError(f"{number} patches of {numbers} numbers are no image of {size[0]} x {size[1]} in patches of {patch} x {patch}")
    tiles = patches.reshape(samples, rows, columns, -1, patch, patch)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(samples, -1, *size)


class VisionTransformer(TokenTransformer):
    """A transformer on the patches of images, data (B, channels, H, W) of any size whose sides are multiples of `patch`.

    Positions are codes of the patches' places in the view, so that small crops need no grid of their own; a mask is (B, N) over patches
    row by row. By default ViT-S/16. dim: width of tokens and rows. depth, heads: of the blocks. pool: rows are a class token, or the mean
    of the patches. masked: learn a token that stands in for hidden patches (see TokenTransformer). frozen_patches: keep the linear map of
    patches as it is initialised, which MoCo v3 trains more stably with.

    >>> from anyview.views.view import View
    >>> encoder = VisionTransformer(1, patch=4, dim=8, depth=1, heads=2)
    >>> [encoder(View(torch.randn(2, 1, size, size))).tokens.shape[1] for size in (16, 8)]
    [16, 4]
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        patch: int = 16,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        ratio: float = 4.0,
        pool: Pool = "class",
        masked: bool = False,
        frozen_patches: bool = False,
        turns: float = 16.0,
    ) -> None:
        linear = nn.Linear(channels * patch * patch, dim)
        super().__init__(linear, depth=depth, heads=heads, ratio=ratio, pool=pool, masked=masked, turns=turns)
        self.channels, self.patch = channels, patch
        self.linear.requires_grad_(not frozen_patches)

    def embed(self, data: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        if data.ndim != 4 or data.shape[1] != self.channels:
            found = tuple(data.shape)
            raise UserError(f"this VisionTransformer reads images (B, {self.channels}, H, W), and the view's data is {found}")
        grid = (data.shape[2] // self.patch, data.shape[3] // self.patch)
        return self.linear(patchify(data, self.patch)), grid


def vit_tiny(
    channels: int = 3, *, patch: int = 16, pool: Pool = "class", masked: bool = False, frozen_patches: bool = False
) -> VisionTransformer:
    """ViT-Ti: width 192, 12 blocks of 3 heads, 5.5 million parameters with patches of 16 on three channels.

    >>> vit_tiny(patch=8).dim
    192
    """
    sizes = {"dim": 192, "depth": 12, "heads": 3}
    return VisionTransformer(channels, patch=patch, pool=pool, masked=masked, frozen_patches=frozen_patches, **sizes)


def vit_small(
    channels: int = 3, *, patch: int = 16, pool: Pool = "class", masked: bool = False, frozen_patches: bool = False
) -> VisionTransformer:
    """ViT-S: width 384, 12 blocks of 6 heads, 21.6 million parameters with patches of 16 on three channels.

    >>> vit_small().blocks.blocks[0].attention.heads
    6
    """
    sizes = {"dim": 384, "depth": 12, "heads": 6}
    return VisionTransformer(channels, patch=patch, pool=pool, masked=masked, frozen_patches=frozen_patches, **sizes)


def vit_base(
    channels: int = 3, *, patch: int = 16, pool: Pool = "class", masked: bool = False, frozen_patches: bool = False
) -> VisionTransformer:
    """ViT-B: width 768, 12 blocks of 12 heads, 85.6 million parameters with patches of 16 on three channels.

    >>> len(vit_base().blocks.blocks)
    12
    """
    sizes = {"dim": 768, "depth": 12, "heads": 12}
    return VisionTransformer(channels, patch=patch, pool=pool, masked=masked, frozen_patches=frozen_patches, **sizes)
