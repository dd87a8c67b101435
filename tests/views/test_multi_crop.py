from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.testing import check_view_maker, tiny_batch
from anyview.testing.tiny import tiny_draws
from anyview.views.crop import Crop
from anyview.views.draws import Draws
from anyview.views.mask import MaskTokens, hide_tokens
from anyview.views.multi_crop import MaskedViews, MultiCrop
from anyview.views.noise import Noise, NoisePair

HALF = partial(hide_tokens, rate=0.5)


def double(data: Tensor, draws: Draws) -> Tensor:
    return 2 * data


def negate(data: Tensor, draws: Draws) -> Tensor:
    return -data


def some(draws: Draws, tokens: int) -> Tensor:
    return draws.bernoulli(0.4, tokens)


# multi-crop


def test_multi_crop_keeps_the_contract() -> None:
    check_view_maker(MultiCrop(Noise(0.1), Noise(0.5), locals=3), tiny_batch())
    check_view_maker(MultiCrop([Noise(0.1), double, negate], Noise(0.5), locals=0), tiny_batch())


def test_one_wide_transform_is_drawn_twice_and_each_local_view_anew() -> None:
    views = MultiCrop(Noise(0.1), Noise(0.5), locals=3)(tiny_batch(), tiny_draws(0, 12)).views
    assert [view.role for view in views] == ["global", "global", "local", "local", "local"]
    for position, view in enumerate(views):
        assert not any(torch.equal(view.data, other.data) for other in views[position + 1 :])
    stds = [float(view.params["std"].mean()) for view in views]
    assert stds == pytest.approx([0.1, 0.1, 0.5, 0.5, 0.5])


def test_several_wide_transforms_make_one_view_each() -> None:
    batch = tiny_batch()
    maker = MultiCrop([double, negate], Noise(0.5), locals=1)
    views = maker(batch, tiny_draws(0, 12))
    assert torch.equal(views.views[0].data, 2 * batch.data)
    assert torch.equal(views.views[1].data, -batch.data)
    assert [view.data.shape for view in views.seen_whole] == [(12, 12)] * 2
    assert maker.gives.views == 2
    assert maker.gives.roles == ("global", "local")


def test_without_local_views_none_are_promised() -> None:
    maker = MultiCrop([double, negate, Noise(0.1)], Noise(0.5), locals=0)
    assert maker.gives.roles == ("global",)
    assert maker.gives.views == len(maker(tiny_batch(), tiny_draws(0, 12)).views) == 3


def test_views_know_their_samples_labels_and_places() -> None:
    groups = {"subject": torch.arange(3)}
    batch = Batch(torch.randn(3, 10), 3, index=torch.tensor([5, 7, 9]), labels=torch.tensor([0, 1, 0]), groups=groups)
    views = MultiCrop(Crop(0.8), Crop(0.3), locals=2)(batch, Draws.seeded(0, total=3))
    assert views.labels.tolist() == [0, 1, 0]
    for view in views.views:
        assert view.index.tolist() == [5, 7, 9]
        assert view.groups == groups
        start = int(view.params["start"][1])
        assert torch.equal(view.data[1], batch.data[1, start : start + view.data.shape[1]])


def test_a_maker_without_a_wide_view_is_refused() -> None:
    with pytest.raises(UserError, match="a wide transform"):
        MultiCrop([], double)
    with pytest.raises(UserError, match="0 or more local views"):
        MultiCrop(double, double, locals=-1)


# masked views


@pytest.mark.parametrize("tokens", [None, 9])
@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_masked_views_keep_the_contract(tokens: int | None, probability: float) -> None:
    maker = MaskedViews(MultiCrop(Noise(0.1), Noise(0.5), locals=2), some, tokens=tokens, probability=probability)
    check_view_maker(maker, tiny_batch(tokens=True))
    assert maker.gives.masks
    assert maker.gives.roles == ("global", "local", "clean")


def test_whole_views_are_masked_and_their_twins_follow_in_order() -> None:
    maker = MultiCrop(Noise(0.1), Noise(0.5), locals=1)
    plain = maker(tiny_batch(tokens=True), tiny_draws(0, 12)).views
    views = MaskedViews(maker, HALF)(tiny_batch(tokens=True), tiny_draws(0, 12)).views
    assert [view.role for view in views] == ["global", "global", "local", "clean", "clean"]
    for masked, clean, before in zip(views[:2], views[3:], plain[:2], strict=True):
        assert torch.equal(clean.data, before.data)
        assert clean.mask is None
        assert torch.equal(clean.params["std"], masked.params["std"])
        assert torch.equal(clean.index, masked.index)
        assert masked.mask.hidden.sum(1).tolist() == [3] * 12
        assert torch.equal(masked.data, torch.where(masked.mask.hidden[..., None], 0.0, before.data))
    assert torch.equal(views[2].data, plain[2].data)
    assert views[2].mask is None
    assert not torch.equal(views[0].mask.hidden, views[1].mask.hidden)


def test_plain_views_are_masked_where_there_are_no_global_ones() -> None:
    views = MaskedViews(NoisePair(0.1), HALF)(tiny_batch(tokens=True), tiny_draws(0, 12))
    assert [view.role for view in views.views] == ["view", "view", "clean", "clean"]
    assert all(view.mask is not None for view in views.seen_whole)


def test_tokens_that_are_not_an_axis_of_the_data_are_counted_by_hand() -> None:
    """An image of 4 x 4 patches: the mask says which, and the data stays for the encoder to cut."""
    batch = Batch(torch.randn(5, 3, 16, 16), 5)
    views = MaskedViews(NoisePair(0.1), HALF, tokens=16)(batch, tiny_draws(0, 5)).views
    assert views[0].mask.hidden.shape == (5, 16)
    assert torch.equal(views[0].data, views[2].data)


def test_some_samples_are_masked_with_the_probability_that_is_given() -> None:
    batch = Batch(torch.randn(2000, 6), 2000)
    views = MaskedViews(NoisePair(0.1), HALF, probability=0.25)(batch, tiny_draws(0, 2000)).seen_whole
    for view in views:
        counts = view.mask.hidden.sum(1)
        assert set(counts.tolist()) == {0, 3}
        assert float((counts > 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    none = MaskedViews(NoisePair(0.1), HALF, probability=0.0)(batch, tiny_draws(0, 2000)).seen_whole
    assert not any(bool(view.mask.hidden.any()) for view in none)


@pytest.mark.parametrize("drop", [True, False])
def test_masks_say_whether_hidden_tokens_are_left_out(drop: bool) -> None:
    views = MaskedViews(NoisePair(0.1), HALF, drop=drop)(tiny_batch(tokens=True), tiny_draws(0, 12)).seen_whole
    assert all(view.mask.drop is drop for view in views)


def test_the_wrapped_maker_s_views_stay_as_they_were() -> None:
    batch = tiny_batch(tokens=True)
    maker = MultiCrop([double, double], double, locals=0)
    before = batch.data.clone()
    views = MaskedViews(maker, HALF)(batch, tiny_draws(0, 12)).views
    assert torch.equal(batch.data, before)
    assert torch.equal(views[2].data, 2 * before)


def test_mistakes_are_told() -> None:
    batch, draws = tiny_batch(tokens=True), tiny_draws(0, 12)
    with pytest.raises(ValueError, match="masked already"):
        MaskedViews(MaskTokens(0.5), HALF)(batch, draws)
    with pytest.raises(ValueError, match="a mask over 6 tokens"):
        MaskedViews(NoisePair(), lambda draws, tokens: draws.bernoulli(0.5, tokens + 1))(batch, draws)
    with pytest.raises(ValueError, match=r"found torch\.float32"):
        MaskedViews(NoisePair(), lambda draws, tokens: draws.uniform(tokens))(batch, draws)
    with pytest.raises(UserError, match="between 0 and 1"):
        MaskedViews(NoisePair(), HALF, probability=1.5)
