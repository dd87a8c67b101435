"""Rows of augmented views: the views that a run was trained on, of some of its samples, seen by its frozen encoder.

What LiDAR, alignment and self-retrieval are taken on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice

import torch
from torch import Tensor

from anyview.data.source import Batch, Epoch, Source
from anyview.encoders.encoder import Encoder
from anyview.errors import UserError
from anyview.evaluation.embedding import frozen
from anyview.views.draws import Draws, derive_seed
from anyview.views.maker import ViewMaker
from anyview.views.view import View

SAMPLES, VIEWS = 1000, 50
"""How many samples, and views of each, LiDAR is published with."""


@dataclass(frozen=True, slots=True)
class AugmentedRows:
    """rows: (n, q, K), q views of each sample. index: (n,), which samples, in increasing order."""

    rows: Tensor
    index: Tensor

    @property
    def flat(self) -> tuple[Tensor, Tensor]:
        """Rows (n q, K) and their samples (n q,)."""
        return self.rows.flatten(0, 1), self.index.repeat_interleave(self.rows.shape[1])


def augmented_rows(
    encoder: Encoder,
    source: Source,
    maker: ViewMaker,
    *,
    samples: int = SAMPLES,
    views: int = VIEWS,
    batch_size: int = 256,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> AugmentedRows:
    """The encoder's rows, float32 on the CPU, of `views` augmented views of each of `samples` samples of a source.

    maker: of the views; those of role "global", or "view" where there are none, count, and it is asked as often as it takes. The encoder
    is in evaluation mode. Samples are the first of an order that `seed` decides, at most those of one epoch; views are drawn from seeds
    that follow from `seed`. Rows are put with their sample by the view's index, never by position. Raises UserError when views
    do not say which samples they show, or show none whole.
    """
    if samples < 1 or views < 1:
        raise UserError(f"at least one view of one sample must be drawn, and {views} views of {samples} samples were asked for")
    parts: list[tuple[Tensor, Tensor]] = []
    left = samples
    with frozen(encoder, torch.device(device)), torch.no_grad():
        for number, batch in enumerate(source.batches(Epoch(seed=seed, batch_size=batch_size))):
            shown = _shown(batch.to(device), maker, derive_seed(seed, "augmented", number), device)
            index, rows = _rows(encoder, shown, views, type(maker).__name__)
            chosen = _some(len(index), left, seed)
            parts.append((index[chosen], rows[chosen]))
            left -= len(chosen)
            if left == 0:
                break
    index, place = torch.cat([index for index, _ in parts]).sort()
    return AugmentedRows(torch.cat([rows for _, rows in parts])[place], index)


def _shown(batch: Batch, maker: ViewMaker, seed: int, device: str | torch.device) -> Iterator[View]:
    """View after view of a batch, as many as are asked for; each says which samples it shows."""
    for number in count():
        seeded = derive_seed(seed, number)
        views = maker(batch, Draws.seeded(seeded, total=batch.total, start=batch.start, rows=batch.rows, device=device)).seen_whole
        if not views:
            raise UserError(f"the views of {type(maker).__name__} show no sample whole, so views of one sample cannot be compared")
        for view in views:
            yield replace(view, index=batch.index) if view.index is None else view


def _rows(encoder: Encoder, shown: Iterator[View], views: int, maker: str) -> tuple[Tensor, Tensor]:
    """Samples (B,), in increasing order, and rows (B, views, K) of them, from as many views as are asked for."""
    rows: list[Tensor] = []
    for view in islice(shown, views):
        if view.index is None:
            raise UserError(f"the views of {maker} do not say which samples they show; let source and views hand on an index")
        samples, order = view.index.cpu().sort()
        seen = encoder(view).rows.float().cpu()
        if len(seen) != len(samples):
            raise UserError(f"the encoder gives {len(seen)} rows for {len(samples)} samples, and views are compared sample by sample")
        rows.append(seen[order])
    return samples, torch.stack(rows, 1)


def _some(rows: int, most: int, seed: int) -> Tensor:
    """All of `rows` places where that is not more than `most`, else `most` of them by chance."""
    if rows <= most:
        return torch.arange(rows)
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[:most]
