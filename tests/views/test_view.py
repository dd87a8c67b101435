from __future__ import annotations

import pytest
import torch

from anyview.views.view import Mask, View, ViewSet


def random_mask(rows: int, tokens: int, hidden: int) -> Mask:
    return Mask(torch.rand(rows, tokens, generator=torch.Generator().manual_seed(0)).argsort(1) < hidden)


@pytest.mark.parametrize("hidden", [0, 3, 7])
def test_kept_tokens_go_back_where_they_stood(hidden: int) -> None:
    mask = random_mask(5, 7, hidden)
    tokens = torch.randn(5, 7, 2)
    kept = tokens.take_along_dim(mask.kept[..., None], 1)
    assert kept.shape == (5, 7 - hidden, 2)
    padded = torch.cat([kept, torch.zeros(5, hidden, 2)], 1)
    restored = padded.take_along_dim(mask.restore[..., None], 1)
    assert torch.equal(restored, tokens * ~mask.hidden[..., None])


def test_kept_is_in_order_of_position() -> None:
    kept = random_mask(20, 9, 4).kept
    assert bool((kept.diff(dim=1) > 0).all())


def test_mask_of_one_graph_has_no_batch_axis() -> None:
    mask = Mask(torch.tensor([True, False, True, False]))
    assert mask.kept.tolist() == [1, 3]
    assert mask.restore.tolist() == [2, 0, 3, 1]


def test_samples_that_keep_different_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="different numbers of tokens"):
        _ = Mask(torch.tensor([[True, False], [False, False]])).kept


def test_token_says_which_hidden_places_show_a_mask_token() -> None:
    hidden = torch.tensor([[True, True, False]])
    assert torch.equal(Mask(hidden).replaced, hidden)
    some = torch.tensor([[True, False, False]])
    assert torch.equal(Mask(hidden, some).replaced, some)


def test_views_of_a_role_come_in_order() -> None:
    views = ViewSet([View(1, role="global"), View(2, role="local"), View(3, role="global")])
    assert [view.data for view in views.role("global")] == [1, 3]
    assert views.role("target") == []


def test_a_mask_that_knows_how_many_it_keeps_says_the_same() -> None:
    hidden = random_mask(5, 12, 7).hidden
    values = torch.randn(5, 12, 3)
    counted, known = Mask(hidden), Mask(hidden, visible=5)
    assert torch.equal(known.kept, counted.kept)
    assert torch.equal(known.at_hidden(values), counted.at_hidden(values))
    assert torch.equal(counted.at_hidden(values), values[hidden])
