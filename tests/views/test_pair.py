from __future__ import annotations

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.testing import check_view_maker, tiny_batch
from anyview.views.draws import Draws
from anyview.views.noise import Noise
from anyview.views.pair import Chain, Pair


def shift(data: Tensor, draws: Draws) -> Tensor:
    return data + draws.uniform(1)


def double(data: Tensor, draws: Draws) -> Tensor:
    return 2 * data


def negate(data: Tensor, draws: Draws) -> Tensor:
    return -data


def add_one(data: Tensor, draws: Draws) -> Tensor:
    return data + 1


def test_pair_keeps_the_contract() -> None:
    check_view_maker(Pair(shift), tiny_batch())
    check_view_maker(Pair(shift, Chain(Noise(0.1), double)), tiny_batch())


def test_one_transform_is_drawn_twice() -> None:
    views = Pair(shift)(tiny_batch(), Draws.seeded(0, total=12)).views
    assert not torch.equal(views[0].data, views[1].data)


def test_two_transforms_make_one_view_each() -> None:
    batch = tiny_batch()
    views = Pair(double, negate)(batch, Draws.seeded(0, total=12)).views
    assert torch.equal(views[0].data, 2 * batch.data)
    assert torch.equal(views[1].data, -batch.data)
    assert views[0].params is None


def test_views_know_their_samples() -> None:
    groups = {"subject": torch.arange(3)}
    batch = Batch(torch.zeros(3, 2), 3, index=torch.tensor([5, 7, 9]), labels=torch.tensor([0, 1, 0]), groups=groups)
    views = Pair(shift)(batch, Draws.seeded(0, total=3))
    assert views.labels.tolist() == [0, 1, 0]
    for view in views.views:
        assert view.index.tolist() == [5, 7, 9]
        assert view.groups == groups


def test_chain_applies_in_order_and_collects_parameters() -> None:
    data, params = Chain(Noise(0.0), double, add_one).record(torch.ones(2, 3), Draws.seeded(0, total=2))
    assert torch.equal(data, torch.full((2, 3), 3.0))
    assert params["std"].tolist() == [[0.0], [0.0]]
