from __future__ import annotations

import pytest
import torch

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.testing import check_view_maker, tiny_batch
from anyview.views.crop import Crop, CropPair, cut, overlap
from anyview.views.draws import Draws


@pytest.mark.parametrize("axis", [1, -1])
def test_crop_pair_keeps_the_contract(axis: int) -> None:
    check_view_maker(CropPair(0.5, axis=axis), tiny_batch(tokens=True))


@pytest.mark.parametrize(("shape", "axis"), [((4, 10), 1), ((4, 10, 3), 1), ((4, 3, 10), -1), ((4, 3, 10, 2), 2)])
def test_batched_cut_is_the_plain_slice_of_every_sample(shape: tuple[int, ...], axis: int) -> None:
    data = torch.randn(shape)
    start = torch.tensor([[0], [3], [6], [2]])
    expected = torch.stack([row.narrow(axis if axis < 0 else axis - 1, int(begin), 4) for row, begin in zip(data, start, strict=True)])
    assert torch.equal(cut(data, start, 4, axis), expected)


def test_starts_cover_the_whole_sequence_equally() -> None:
    _, params = Crop(length=4).record(torch.zeros(7000, 10), Draws.seeded(0, total=7000))
    counts = params["start"].flatten().bincount(minlength=7)
    assert len(counts) == 7
    assert float(counts.min()) > 850


def test_share_and_length() -> None:
    draws = Draws.seeded(0, total=2)
    assert Crop(0.3)(torch.zeros(2, 10), draws).shape == (2, 3)
    assert Crop(1.0)(torch.zeros(2, 10), draws).shape == (2, 10)
    assert Crop(0.01)(torch.zeros(2, 10), draws).shape == (2, 1)
    assert Crop(length=7)(torch.zeros(2, 10), draws).shape == (2, 7)


def test_matches_show_the_same_place() -> None:
    places = torch.arange(20.0).expand(6, 20)
    views = CropPair(length=12)(Batch(places, 6), Draws.seeded(1, total=6))
    first, second = (view.data for view in views.views)
    matches = views.relations[0].matches
    assert matches.shape == (6, 12, 2)
    for sample in range(6):
        pairs = [(int(i), int(j)) for i, j in matches[sample] if i >= 0]
        assert [first[sample, i] for i, _ in pairs] == [second[sample, j] for _, j in pairs]
        assert len(pairs) == len(set(first[sample].tolist()) & set(second[sample].tolist()))


def test_crops_that_do_not_meet_have_no_matches() -> None:
    assert overlap(torch.tensor([[0]]), torch.tensor([[8]]), 4).unique().tolist() == [-1]


def test_impossible_crops_are_refused() -> None:
    with pytest.raises(UserError, match="above 0 and at most 1"):
        Crop(0.0)
    with pytest.raises(UserError, match="the sequence has 10"):
        Crop(length=11)(torch.zeros(2, 10), Draws.seeded(0, total=2))
