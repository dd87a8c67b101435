from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.testing import check_view_maker, tiny_batch
from anyview.views.blocks import ContextTargets, MaskGrid, block_mask, blocks, context_and_targets, random_mask
from anyview.views.draws import Draws
from anyview.views.maker import ViewMaker
from anyview.views.multi_crop import MaskedViews
from anyview.views.noise import NoisePair

GRIDS = [(24,), (6, 4), (3, 2, 4)]
MAKERS = [MaskGrid(0.5), MaskGrid(0.5, shape="blocks", drop=True), ContextTargets(), ContextTargets(targets=2)]


def draws(seed: int = 0, total: int = 50) -> Draws:
    return Draws.seeded(seed, total=total)


def halves(make: Any, total: int = 10) -> list[Any]:
    return [make(Draws.seeded(3, total=total, start=start, rows=total // 2)) for start in (0, total // 2)]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("tokens", [False, True])
def test_makers_keep_the_contract(maker: ViewMaker, tokens: bool) -> None:
    check_view_maker(maker, tiny_batch(tokens=tokens))


@pytest.mark.parametrize("maker", [MaskGrid(0.5, grid=(3, 4)), ContextTargets(grid=(3, 4))])
def test_makers_keep_the_contract_on_a_grid(maker: ViewMaker) -> None:
    check_view_maker(maker, tiny_batch())


@pytest.mark.parametrize(("tokens", "rate", "kept"), [(196, 0.75, 49), (10, 0.75, 2), (10, 0.9, 1), (10, 0.0, 10), (7, 0.5, 3)])
def test_as_many_are_kept_as_the_paper_s_rounding_says(tokens: int, rate: float, kept: int) -> None:
    assert (~random_mask(draws(), tokens, rate)).sum(1).unique().tolist() == [kept]
    assert (~block_mask(draws(), tokens, rate)).sum(1).unique().tolist() == [kept]


def test_all_tokens_are_hidden_equally_often() -> None:
    share = random_mask(draws(total=5_000), 5, 0.4).float().mean(0)
    torch.testing.assert_close(share, torch.full((5,), 0.4), atol=0.03, rtol=0)


@pytest.mark.parametrize("hide", [random_mask, block_mask])
def test_a_mask_that_keeps_nothing_is_refused(hide: Any) -> None:
    with pytest.raises(UserError, match=r"hiding a share of 0.9 of 6 tokens keeps none"):
        hide(draws(), 6, 0.9)
    with pytest.raises(UserError, match="between 0 and 1"):
        hide(draws(), 6, -0.5)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_block_is_a_box_of_its_share_and_lies_anywhere(grid: tuple[int, ...]) -> None:
    found = blocks(draws(total=400), grid, 2, (0.2, 0.4), (0.75, 1.5))
    assert found.shape == (400, 2, 24)
    boxes = found.flatten(0, 1).view(-1, *grid)
    for box in boxes[:100]:
        places = box.nonzero()
        sides = places.amax(0) - places.amin(0) + 1
        assert int(sides.prod()) == int(box.sum())
    assert 0.15 < float(boxes.float().mean()) < 0.45
    assert bool(boxes.any(0).all())


def test_a_block_has_the_size_of_the_published_formula() -> None:
    """Height √(cells · scale · aspect) and width √(cells · scale / aspect), rounded."""
    for scale, aspect in ((0.15, 0.75), (0.2, 1.5), (0.175, 1.0)):
        box = blocks(draws(total=1), (14, 14), 1, (scale, scale), (aspect, aspect))[0, 0].view(14, 14)
        assert int(box.any(1).sum()) == round(math.sqrt(196 * scale * aspect))
        assert int(box.any(0).sum()) == round(math.sqrt(196 * scale / aspect))


def test_blocks_of_one_size_differ_in_place_alone() -> None:
    found = blocks(draws(), (8, 8), 3, (0.1, 0.4), (0.3, 3.0), one_size=True)
    assert found.sum(2).unique().numel() == 1
    assert len(found.flatten(0, 1).unique(dim=0)) > 20
    assert blocks(draws(), (8, 8), 3, (0.1, 0.4), (0.3, 3.0)).sum(2).unique().numel() > 3


def neighbours(hidden: Tensor) -> float:
    """How often the neighbour on the right of a hidden token is hidden too."""
    both = hidden[:, :, 1:] & hidden[:, :, :-1]
    return float(both.sum() / hidden[:, :, :-1].sum())


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6, 0.9])
def test_hidden_blocks_hang_together_at_any_rate(rate: float) -> None:
    grid = (14, 14)
    hidden = block_mask(draws(total=100), 196, rate, grid=grid)
    assert hidden.sum(1).unique().tolist() == [196 - math.floor(196 * (1 - rate) + 1e-9)]
    single = random_mask(draws(total=100), 196, rate)
    assert neighbours(hidden.view(-1, *grid)) > neighbours(single.view(-1, *grid)) + 0.5 * (1 - rate)


def test_spans_of_a_sequence_hang_together() -> None:
    hidden = block_mask(draws(total=200), 100, 0.5, block=(0.1, 0.1))
    edges = (hidden[:, 1:] != hidden[:, :-1]).sum(1).float()
    assert 1 <= float(edges.mean()) < 12  # hidden one by one, there would be about fifty


def test_every_sample_may_hide_a_share_of_its_own() -> None:
    counts = block_mask(draws(total=2000), 100, (0.1, 0.5)).sum(1)
    assert (int(counts.min()), int(counts.max())) == (10, 50)
    assert float(counts.float().mean()) == pytest.approx(30, abs=1)


def test_a_grid_of_other_tokens_is_refused() -> None:
    with pytest.raises(UserError, match=r"12 tokens was asked for on a grid \(2, 5\) of 10 cells"):
        block_mask(draws(), 12, 0.5, grid=(2, 5))


@pytest.mark.parametrize("hide", [partial(random_mask, rate=0.5), partial(block_mask, rate=(0.2, 0.6), grid=(6, 4))])
def test_masks_are_slices_of_the_global_batch_s(hide: Any) -> None:
    whole = hide(Draws.seeded(3, total=10), 24)
    assert torch.equal(torch.cat(halves(lambda own: hide(own, 24))), whole)
    views = MaskedViews(NoisePair(), hide)(Batch(torch.ones(10, 24, 2), 10), Draws.seeded(3, total=10)).views
    assert views[0].mask.hidden.shape == (10, 24)


@pytest.mark.parametrize("grid", [(6,), (24,), (6, 4), (14, 14), (3, 2, 4)])
@pytest.mark.parametrize("seed", range(5))
def test_context_and_targets_share_no_token_and_have_equal_lengths(grid: tuple[int, ...], seed: int) -> None:
    context, targets = context_and_targets(draws(seed), grid)
    assert targets.shape == (50, 4, math.prod(grid))
    assert not bool((context & targets.any(1)).any())
    assert context.sum(1).unique().numel() == 1
    assert int(context[0].sum()) > 0
    assert targets.sum(2).unique().numel() == 1


def test_lengths_are_those_of_the_global_batch() -> None:
    make = partial(context_and_targets, grid=(6, 6))
    (first, one), (second, two) = halves(make, 40)
    context, targets = make(Draws.seeded(3, total=40))
    assert torch.equal(torch.cat([first, second]), context)
    assert torch.equal(torch.cat([one, two]), targets)


def test_context_lies_in_one_block_and_is_cut_anywhere() -> None:
    context, targets = context_and_targets(draws(total=500), (14, 14), targets=1, target_scale=(0.1, 0.1), context_scale=(0.25, 0.25))
    boxes = context.view(-1, 14, 14)
    spans = [int(box.any(axis).nonzero().amax() - box.any(axis).nonzero().amin()) + 1 for box in boxes for axis in (0, 1)]
    assert max(spans) == 7
    assert bool(context.any(0).all())
    assert 20 <= int(context[0].sum()) <= 49 - 9
    assert int(targets[0].sum()) == 20


def test_a_sample_whose_block_leaves_too_little_takes_all_that_is_free() -> None:
    context, targets = context_and_targets(draws(), (8, 8), context_scale=(0.02, 0.02), least=0.1)
    free = (~targets.any(1)).sum(1)
    assert int(context.sum(1)[0]) == int(free.min())


def test_targets_that_cover_everything_are_made_one_target() -> None:
    context, targets = context_and_targets(draws(total=200), (3,), targets=8, target_scale=(0.3, 0.3))
    assert not bool((context & targets.any(1)).any())
    assert int(context.sum(1).min()) == 1
    with pytest.raises(UserError, match="covers all 1 tokens"):
        context_and_targets(draws(), (1,))


def test_images_keep_their_pixels_and_have_patches_as_targets() -> None:
    batch = Batch(torch.randn(4, 3, 8, 8), 4)
    maker = MaskGrid(0.75, grid=(2, 2), patches=lambda x: 2 * x.reshape(4, 4, -1))
    view, clean = maker(batch, draws(total=4)).views
    assert view.data is clean.data is batch.data
    assert view.mask.hidden.sum(1).tolist() == [3] * 4
    assert torch.equal(view.target, 2 * batch.data.reshape(4, 4, 48))


def test_i_jepa_s_views_say_what_is_what() -> None:
    batch = tiny_batch(tokens=True)
    views = ContextTargets(targets=3)(batch, draws(total=12))
    assert [view.role for view in views.views] == ["context", "clean", "target", "target", "target"]
    context, clean, *targets = views.views
    assert context.mask.drop
    assert clean.mask is None
    assert all(view.data is batch.data and view.index is batch.index for view in views.views)
    for target in targets:
        assert bool((context.mask.hidden | ~target.mask.hidden).all())
        assert not target.mask.drop


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"targets": 0}, "at least one target"),
        ({"target_scale": (0.2, 0.1)}, "target_scale"),
        ({"context_scale": (0.0, 1.0)}, "context_scale"),
    ],
)
def test_views_that_cannot_be_made_are_refused(options: dict[str, Any], phrase: str) -> None:
    with pytest.raises(UserError, match=phrase):
        ContextTargets(**options)
