from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.data.source import Epoch
from anyview.distributed import rank, ranks
from anyview.errors import UserError
from anyview.testing import run_on_ranks
from anyview.views.draws import Draws
from anyview.views.pair import Params
from anyview_images.batch_style import BatchStyle, low_frequencies, with_style
from anyview_images.views import AugmentedPair

from .conftest import batch_of, draws_for, some_images


def amplitude(images: Tensor) -> Tensor:
    return torch.fft.rfft2(images).abs()


@pytest.mark.parametrize("sides", [(20, 26), (9, 7)])
def test_no_style_and_ones_own_style_change_nothing(sides: tuple[int, int]) -> None:
    images = some_images(height=sides[0], width=sides[1], dtype=torch.float32)
    torch.testing.assert_close(BatchStyle((0.0, 0.0))(images, draws_for(images)), images, rtol=0, atol=1e-5)
    view, params = BatchStyle((0.3, 0.6)).record(images, draws_for(images))
    own = int(params["style"][0])
    torch.testing.assert_close(view[own], images[own], rtol=0, atol=1e-5)
    assert (view - images).abs().amax((1, 2, 3)).sort().values[1] > 0.01


def test_low_amplitudes_are_the_styles_and_the_others_and_all_phases_stay(images: Tensor) -> None:
    ratio = torch.tensor(0.2)
    styled = with_style(images, amplitude(images[2:3]), ratio)
    chosen = low_frequencies(20, 26, ratio)
    assert {True, False} == set(chosen.flatten().tolist())
    torch.testing.assert_close(amplitude(styled)[..., chosen], amplitude(images[2:3])[..., chosen].expand(6, -1, -1))
    torch.testing.assert_close(amplitude(styled)[..., ~chosen], amplitude(images)[..., ~chosen])
    turned = torch.fft.rfft2(styled) * torch.fft.rfft2(images).conj()
    assert float((turned.imag.abs() / turned.abs().clamp(min=1e-9)).max()) < 1e-6
    assert bool((turned.real > 0).all())


@pytest.mark.parametrize("ratio", [0.0, 0.04, 0.25, 1.0])
def test_the_rectangle_has_its_share_of_the_spectrum(ratio: float) -> None:
    half = low_frequencies(64, 64, torch.tensor(ratio)).double()
    twice = torch.full((33,), 2.0, dtype=torch.float64)
    twice[[0, 32]] = 1.0  # the first and the last column of a half spectrum stand for themselves alone
    assert abs(float((half * twice).sum()) / 64**2 - ratio) < 0.04


def test_each_column_draws_a_style_of_its_own(images: Tensor) -> None:
    draws = draws_for(images)
    transform = BatchStyle((0.01, 0.5))
    columns = [transform.record(images, draws)[1] for _ in range(8)]
    assert all(len(column["style"].unique()) == len(column["ratio"].unique()) == 1 for column in columns)
    assert len({int(column["style"][0]) for column in columns}) > 2
    assert len({float(column["ratio"][0]) for column in columns}) == 8


def own_part(transform: BatchStyle, images: Tensor, seed: int) -> tuple[Tensor, Params]:
    """What one of several ranks makes of its rows."""
    own = Epoch(rank=rank(), ranks=ranks()).own(len(images))
    draws = Draws.seeded(seed, total=len(images), start=own.start, rows=own.stop - own.start)
    return transform.record(images[own], draws)


@pytest.mark.parametrize("number", [2, 3])
def test_the_style_comes_from_the_rank_that_holds_it(number: int) -> None:
    images, transform = some_images(7), BatchStyle((0.05, 0.3))
    styles = set()
    for seed in range(3):
        whole, params = transform.record(images, Draws.seeded(seed, total=7))
        parts = run_on_ranks(partial(own_part, transform, images, seed), number)
        assert torch.equal(torch.cat([part for part, _ in parts]), whole)
        assert torch.equal(torch.cat([drawn["style"] for _, drawn in parts]), params["style"])
        styles.add(int(params["style"][0]))
    assert len(styles) > 1


def test_a_part_of_a_batch_on_one_process_says_what_is_wrong(images: Tensor) -> None:
    seed = next(seed for seed in range(20) if int(BatchStyle().record(images, draws_for(images, seed))[1]["style"][0]) > 1)
    with pytest.raises(ValueError, match="one of 6 images gives the style, and 2 are here"):
        BatchStyle()(images[:2], Draws.seeded(seed, total=6, start=0, rows=2))


def test_a_pair_with_style_shares_its_jitter_too(images: Tensor) -> None:
    first, second = AugmentedPair(16, augmentation="asymmetric_small", style=(0.1, 0.2))(batch_of(images.float()), draws_for(images)).views
    for view in (first, second):
        assert len(view.params["jitter"].unique(dim=0)) == len(view.params["style"].unique()) == 1
        assert len(view.params["box"].unique(dim=0)) == 6
    assert not torch.equal(first.params["ratio"], second.params["ratio"])


def test_shares_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match=r"styles of 0.5 to 0.1 of the spectrum"):
        BatchStyle((0.5, 0.1))
