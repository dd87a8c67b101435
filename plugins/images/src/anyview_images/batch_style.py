"""Batch styles: all images of a view column get the low-frequency amplitudes of one of them, so that negatives share a style.

Scalbert, Vakalopoulou, Couzinié-Devy. Towards Domain-Invariant Self-Supervised Learning with Batch Styles Standardization. 2023,
arXiv 2303.06088.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.distributed import ranks, sum_over_ranks
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.pair import Params, RecordedTransform


def low_frequencies(height: int, width: int, ratio: Tensor) -> Tensor:
    """Which entries of a half spectrum (H, W // 2 + 1) lie in the centred rectangle of that share of the whole spectrum's area.

    ratio: a scalar in [0, 1]; 0 chooses none, 1 all.
    """
    side = ratio.sqrt() / 2
    down = torch.fft.fftfreq(height, device=ratio.device).abs()
    across = torch.fft.rfftfreq(width, device=ratio.device)
    return (down[:, None] <= side) & (across <= side) & (ratio > 0)


def with_style(images: Tensor, amplitude: Tensor, ratio: Tensor) -> Tensor:
    """Images (B, C, H, W) with the amplitudes of a style image (1, C, H, W // 2 + 1) at low frequencies; every phase stays.

    ratio: share of the spectrum that is replaced. The result is real, and not cut to [0, 1].
    """
    height, width = images.shape[2:]
    spectrum = torch.fft.rfft2(images)
    chosen = low_frequencies(height, width, ratio)
    styled = torch.polar(torch.where(chosen, amplitude, spectrum.abs()), spectrum.angle())
    return torch.fft.irfft2(styled, s=(height, width))


class BatchStyle(RecordedTransform):
    """Gives all images of the global batch the style of one; records "style" (B, 1), that image's place in it, and "ratio" (B, 1).

    ratio: least and largest share of the spectrum that is replaced. Image and share are drawn once per view column; under several ranks the
    amplitudes come from the rank that holds the image. Goes after the geometric part; colour jitter that follows is to be drawn once per
    batch as well (`ColourJitter(shared=True)`). Images (B, C, H, W), float. Raises UserError for shares outside of [0, 1].

    >>> images = torch.rand(4, 3, 8, 8)
    >>> torch.allclose(BatchStyle((0.0, 0.0))(images, Draws.seeded(0, total=4)), images, atol=1e-5)
    True
    """

    def __init__(self, ratio: tuple[float, float] = (0.01, 0.1)) -> None:
        if not 0 <= ratio[0] <= ratio[1] <= 1:
            raise UserError(
                f"styles of {ratio[0]:g} to {ratio[1]:g} of the spectrum were asked for; give shares from 0 to 1, the smaller first"
            )
        self.ratio = ratio

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        style = torch.randint(draws.total, (1,), generator=draws.generator, device=draws.device)
        ratio = self.ratio[0] + (self.ratio[1] - self.ratio[0]) * draws.shared_uniform(1)
        with torch.autocast(data.device.type, enabled=False):
            changed = with_style(data, self._amplitude(data, style, draws), ratio)
        rows = len(data)
        return changed, {"style": style.expand(rows, 1), "ratio": ratio.expand(rows, 1)}

    def _amplitude(self, data: Tensor, style: Tensor, draws: Draws) -> Tensor:
        """The spectrum's amplitudes of image `style` (1,) of the global batch, (1, C, H, W // 2 + 1), from the rank that holds it.

        Other ranks add zeros, so that the host need not know which image it is.
        """
        if ranks() == 1 and len(data) != draws.total:
            raise ValueError(f"one of {draws.total} images gives the style, and {len(data)} are here: a part of a batch is no batch")
        own = style - draws.start
        held = data[own.clamp(0, len(data) - 1)] * ((own >= 0) & (own < len(data))).view(-1, 1, 1, 1)
        return torch.fft.rfft2(sum_over_ranks(held)).abs()
