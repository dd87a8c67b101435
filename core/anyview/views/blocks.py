"""Masks over tokens on a grid: single tokens, blocks of neighbours, and the context and target blocks of I-JEPA.

Blocks: Bao, Dong, Piao, Wei. BEiT: BERT Pre-Training of Image Transformers. 2021, arXiv 2106.08254. Context and targets: Assran et al.
Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture. 2023, arXiv 2301.08243.

A grid has any number of axes and counts its cells with the last axis running fastest: (N,) for a sequence, (H, W) for the patches of an
image. Masks here hide tokens and leave the data whole: they are for encoders that read a view's mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import Mask, View, ViewSet

Range = tuple[float, float]
Patches = Callable[[Tensor], Tensor]
"""From a batch's data to what its tokens show, (B, N, P); the identity for sequences (B, N, P)."""


def random_mask(draws: Draws, tokens: int, rate: float = 0.75) -> Tensor:
    """Tokens hidden one by one, bool (rows, tokens): each sample keeps tokens·(1 - rate) of them, rounded down, at random.

    Raises UserError when a rate is none, and when no token would be kept.

    >>> random_mask(Draws.seeded(0, total=2), 10, 0.75).sum(1).tolist()
    [8, 8]
    """
    return _ranks(draws.uniform(tokens)) >= kept_tokens(tokens, rate)


def block_mask(
    draws: Draws,
    tokens: int,
    rate: float | Range = 0.6,
    *,
    grid: tuple[int, ...] | None = None,
    block: Range = (0.08, 0.25),
    aspect: Range = (0.3, 1 / 0.3),
) -> Tensor:
    """Tokens hidden in blocks of neighbours, bool (rows, tokens): each sample keeps tokens·(1 - rate) of them, rounded down.

    rate: the share that is hidden, or a range from which every sample draws its own. grid: the cells along each axis, by default one
    axis. block: the range of one block's share of the grid. aspect: the range of each axis' length in a block to the last axis'. Blocks of
    a sample lie where they fall and may overlap; of the last one, only the part that is still wanted is hidden. Raises UserError when the
    grid has another number of cells, when a rate is none, and when no token would be kept.

    >>> block_mask(Draws.seeded(0, total=1), 16, 0.25, grid=(4, 4), block=(0.25, 0.25), aspect=(1, 1)).view(4, 4).int()
    tensor([[0, 0, 0, 0],
            [0, 1, 1, 0],
            [0, 1, 1, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    grid = _checked_grid(grid, tokens)
    low, high = rate if isinstance(rate, tuple) else (rate, rate)
    most, least = tokens - kept_tokens(tokens, low), tokens - kept_tokens(tokens, high)
    most, least = max(most, least), min(most, least)
    count = least + (draws.uniform(1) * (most - least + 1)).long()
    number = math.ceil(2 * math.log1p(-min(most / tokens, 0.99)) / math.log1p(-min(sum(block) / 2, 0.99))) + 2
    covered = blocks(draws, grid, number, block, aspect)
    order = torch.arange(number, device=covered.device)[:, None]
    first = torch.where(covered, order, number).amin(1)  # the block that reaches a token first; `number` where none does
    cells = torch.arange(tokens, device=covered.device) / tokens
    return _ranks(first + torch.where(first < number, cells, draws.uniform(tokens))) < count


def blocks(draws: Draws, grid: tuple[int, ...], number: int, scale: Range, aspect: Range, *, one_size: bool = False) -> Tensor:
    """Rectangular blocks at random places of a grid, bool (rows, number, N).

    scale: the range of a block's share of the grid's cells, drawn uniformly. aspect: the range of the ratio of each axis' length to the
    last axis', drawn log-uniformly. one_size: draw the size once, for all blocks, samples and ranks. Sides are whole cells, at least one.

    >>> blocks(Draws.seeded(0, total=2), (4, 4), 3, (0.25, 0.25), (1, 1)).sum(2).tolist()
    [[4, 4, 4], [4, 4, 4]]
    """
    axes = len(grid)
    chance = draws.shared_uniform(1, 1, axes) if one_size else draws.uniform(number, axes)
    sides = _sides(chance, grid, scale, aspect)
    start = (draws.uniform(number, axes) * (_lengths(grid, sides) - sides + 1)).long()
    inside = torch.ones(*start.shape[:2], 1, dtype=torch.bool, device=start.device)
    for axis, length in enumerate(grid):
        place = torch.arange(length, device=start.device)
        begin = start[..., axis, None]
        within = (place >= begin) & (place < begin + sides[..., axis, None])
        inside = (inside[..., None] & within[..., None, :]).flatten(2)
    return inside


def context_and_targets(
    draws: Draws,
    grid: tuple[int, ...],
    *,
    targets: int = 4,
    target_scale: Range = (0.15, 0.2),
    target_aspect: Range = (0.75, 1.5),
    context_scale: Range = (0.85, 1.0),
    least: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """I-JEPA's context (rows, N) and target blocks (rows, targets, N), bool, no token in both; every sample of the step has equally many.

    Sizes are drawn once for the step, places for every sample. The context is a block without its sample's targets, cut at random to the
    length of the shortest in the global batch. A sample whose context would be less than the share `least` of the grid takes all tokens
    that are no targets; one whose targets cover all of the grid has one target, several times. Raises UserError when a single target
    covers it.

    >>> context, targets = context_and_targets(Draws.seeded(0, total=3), (6, 6))
    >>> context.sum(1).unique().numel(), targets.shape, bool((context & targets.any(1)).any())
    (1, torch.Size([3, 4, 36]), False)
    """
    whole = Draws(draws.generator, 0, draws.total, draws.total)  # lengths are those of the global batch
    hidden = blocks(whole, grid, targets, target_scale, target_aspect, one_size=True)
    within = blocks(whole, grid, 1, context_scale, (1.0, 1.0), one_size=True)[:, 0]
    covered = hidden.any(1).all(1)[:, None, None]
    hidden = torch.where(covered, hidden[:, :1], hidden)
    free = ~hidden.any(1)
    if not bool(free.any(1).all()):
        raise UserError(f"a target block covers all {math.prod(grid)} tokens and leaves no context; ask for smaller targets")
    wanted = within & free
    wanted = torch.where(wanted.sum(1, keepdim=True) < max(1.0, least * math.prod(grid)), free, wanted)
    order = _ranks(whole.uniform(math.prod(grid)) - wanted.float())  # wanted ones first, in random order
    context = order < wanted.sum(1).min()
    own = slice(draws.start, draws.start + draws.rows)
    return context[own], hidden[own]


class MaskGrid(ViewMaker):
    """A view with tokens on a grid hidden, whose data is left whole, and that data as a "clean" view for teachers.

    rate: share that is hidden, equal in every sample. shape: single tokens (`random_mask`) or blocks of neighbours (`block_mask`). grid:
    the cells along each axis; None: the second axis of the data, (B, N, ...). patches: from the data to what its tokens show, (B, N, P),
    for the view's target; None: the data itself. drop: see `Mask`.

    >>> MaskGrid(0.5, shape="blocks")(Batch(torch.ones(2, 8, 3), 2), Draws.seeded(0, total=2)).views[0].mask.hidden.sum(1).tolist()
    [4, 4]
    """

    gives = Gives(roles=("view", "clean"), masks=True, targets=True)

    def __init__(
        self,
        rate: float = 0.75,
        *,
        shape: Literal["random", "blocks"] = "random",
        grid: tuple[int, ...] | None = None,
        patches: Patches | None = None,
        drop: bool = False,
    ) -> None:
        self.rate, self.shape, self.grid, self.patches, self.drop = rate, shape, grid, patches, drop

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        data: Tensor = batch.data
        grid = self.grid or (data.shape[1],)
        tokens = math.prod(grid)
        hidden = random_mask(draws, tokens, self.rate) if self.shape == "random" else block_mask(draws, tokens, self.rate, grid=grid)
        target = data if self.patches is None else self.patches(data)
        mask = Mask(hidden, drop=self.drop, visible=kept_tokens(tokens, self.rate))
        view = View(data, mask=mask, target=target, index=batch.index, groups=batch.groups)
        clean = View(data, role="clean", index=batch.index, groups=batch.groups)
        return ViewSet([view, clean], labels=batch.labels)


class ContextTargets(ViewMaker):
    """I-JEPA's views: a "context" with all else hidden and dropped, the "clean" data for a teacher, and "target" blocks to predict.

    targets: how many blocks. target_scale, target_aspect, context_scale: see `context_and_targets`. grid: the cells along each axis; None:
    the second axis of the data, (B, N, ...). All views hold the whole data; what is hidden, or to be predicted, is in their masks.

    >>> views = ContextTargets(targets=2)(Batch(torch.ones(3, 12, 5), 3), Draws.seeded(0, total=3)).views
    >>> [(view.role, None if view.mask is None else view.mask.hidden.sum(1).unique().numel()) for view in views]
    [('context', 1), ('clean', None), ('target', 1), ('target', 1)]
    """

    gives = Gives(views=0, roles=("context", "clean", "target"), masks=True)

    def __init__(
        self,
        *,
        targets: int = 4,
        target_scale: Range = (0.15, 0.2),
        target_aspect: Range = (0.75, 1.5),
        context_scale: Range = (0.85, 1.0),
        grid: tuple[int, ...] | None = None,
    ) -> None:
        if targets < 1:
            raise UserError(f"I-JEPA's views need at least one target block, and {targets} were asked for")
        for name, (low, high) in {"target_scale": target_scale, "context_scale": context_scale}.items():
            if not 0 < low <= high <= 1:
                raise UserError(f"{name} is a range of shares above 0 and at most 1, and ({low:g}, {high:g}) was given")
        self.targets, self.grid = targets, grid
        self.target_scale, self.target_aspect, self.context_scale = target_scale, target_aspect, context_scale

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        context, targets = context_and_targets(
            draws,
            self.grid or (batch.data.shape[1],),
            targets=self.targets,
            target_scale=self.target_scale,
            target_aspect=self.target_aspect,
            context_scale=self.context_scale,
        )
        masks = [("context", Mask(~context, drop=True)), ("clean", None), *(("target", Mask(block)) for block in targets.unbind(1))]
        views = [View(batch.data, role=role, mask=mask, index=batch.index, groups=batch.groups) for role, mask in masks]
        return ViewSet(views, labels=batch.labels)


def _sides(chance: Tensor, grid: tuple[int, ...], scale: Range, aspect: Range) -> Tensor:
    """Whole cells along each of C axes, (..., C), from numbers (..., C) in [0, 1): the first is the scale's, the others are aspects'."""
    cells = math.prod(grid) * (scale[0] + (scale[1] - scale[0]) * chance[..., :1])
    ratios = aspect[0] * (aspect[1] / aspect[0]) ** chance[..., 1:]
    last = (cells / ratios.prod(-1, keepdim=True)) ** (1 / len(grid))
    sides = torch.cat([ratios * last, last], dim=-1).round().clamp(min=1)
    return sides.minimum(_lengths(grid, sides)).long()


def _lengths(grid: tuple[int, ...], like: Tensor) -> Tensor:
    """The cells along each axis, (C,), made on the device: numbers that come from the host would make it wait."""
    return torch.stack([like.new_full((), cells) for cells in grid])


def _ranks(scores: Tensor) -> Tensor:
    """The place of each number among those of its row, from the smallest on."""
    return scores.argsort(dim=1, stable=True).argsort(dim=1)


def kept_tokens(tokens: int, rate: float) -> int:
    """How many tokens a sample keeps; raises UserError when a rate is none, and when that is no token.

    >>> kept_tokens(196, 0.75)
    49
    """
    if not 0.0 <= rate <= 1.0:
        raise UserError(f"a share must lie between 0 and 1, and {rate:g} was asked for; give one in that range")
    kept = math.floor(tokens * (1.0 - rate) + 1e-9)
    if kept == 0:
        raise UserError(f"hiding a share of {rate:g} of {tokens} tokens keeps none; hide a smaller share")
    return kept


def _checked_grid(grid: tuple[int, ...] | None, tokens: int) -> tuple[int, ...]:
    if grid is not None and math.prod(grid) != tokens:
        raise UserError(f"a mask over {tokens} tokens was asked for on a grid {grid} of {math.prod(grid)} cells; make them agree")
    return grid or (tokens,)
