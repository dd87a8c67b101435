"""Augmented rows: grouped by sample, drawn by seed, seen in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from anyview.data.arrays import ArraySource
from anyview.data.source import Batch, Epoch
from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.evaluation.augmented import augmented_rows
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.mask import MaskTokens
from anyview.views.noise import NoisePair
from anyview.views.view import View, ViewSet


class Numbers(ArraySource):
    """Samples that say which they are."""

    def __init__(self, samples: int) -> None:
        super().__init__(torch.arange(samples).float()[:, None].repeat(1, 3) * 100, name="numbers")


class Same(Encoder):
    dim = 3

    def forward(self, view: View) -> Encoding:
        assert not self.training
        assert not torch.is_grad_enabled()
        return Encoding(view.data)


class Shuffled(ViewMaker):
    """Two noisy views, the second in another order."""

    gives = Gives(views=2)

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        order = torch.randperm(batch.rows, generator=draws.generator)
        first = View(batch.data + draws.normal(3), index=batch.index)
        return ViewSet([first, View((batch.data + draws.normal(3))[order], index=batch.index[order])])


@pytest.mark.parametrize("views", [1, 2, 5])
@pytest.mark.parametrize("samples", [4, 30, 1000])
def test_rows_stand_with_their_sample(views, samples):
    found = augmented_rows(Same().train(), Numbers(64), Shuffled(), samples=samples, views=views, batch_size=16)
    assert found.rows.shape == (min(samples, 64), views, 3)
    assert torch.equal(found.index, found.index.unique())
    assert (found.rows - 100 * found.index[:, None, None]).abs().max() < 10
    if views > 1:
        assert float((found.rows[:, 0] - found.rows[:, 1]).abs().min()) > 0
    flat, index = found.flat
    assert torch.equal(flat[3 % len(flat)], found.rows.flatten(0, 1)[3 % len(flat)])
    assert index.tolist() == [sample for sample in found.index.tolist() for _ in range(views)]


def test_the_seed_decides_samples_and_views():
    first, again, other = (augmented_rows(Same(), Numbers(64), NoisePair(), samples=10, views=4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.index, other.index)


def test_the_encoder_comes_back_as_it_was():
    encoder = MLP(3, hidden=8, dim=4).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    augmented_rows(encoder, Numbers(32), NoisePair(), samples=8, views=2)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_masked_views_are_views():
    source = ArraySource(torch.randn(12, 6, 5), name="tokens")

    class Tokens(Encoder):
        dim = 5

        def forward(self, view: View) -> Encoding:
            assert view.mask is not None
            return Encoding(torch.where(view.mask.hidden[..., None], 0, view.data).mean(1))

    found = augmented_rows(Tokens(), source, MaskTokens(0.5), samples=12, views=3)
    assert found.rows.shape == (12, 3, 5)


class WholeBatch(Numbers):
    """Like a graph: one batch, whatever size is asked for."""

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        yield self._batch(torch.arange(len(self)), 0, len(self))


def test_a_source_of_one_batch_gives_some_of_its_samples():
    found = augmented_rows(Same(), WholeBatch(50), NoisePair(), samples=9, views=2)
    assert len(found.index) == 9
    assert found.index.max() > 9
    assert (found.rows - 100 * found.index[:, None, None]).abs().max() < 10


def test_views_that_cannot_be_grouped_are_refused():
    class Nameless(Numbers):
        def batches(self, epoch: Epoch) -> Iterator[Batch]:
            yield replace(next(super().batches(epoch)), index=None)

    class Partial(ViewMaker):
        def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
            return ViewSet([View(batch.data, role="local", index=batch.index)])

    with pytest.raises(UserError, match="do not say which samples"):
        augmented_rows(Same(), Nameless(8), NoisePair())
    with pytest.raises(UserError, match="Partial show no sample whole"):
        augmented_rows(Same(), Numbers(8), Partial())
    with pytest.raises(UserError, match="0 views of 5 samples"):
        augmented_rows(Same(), Numbers(8), NoisePair(), samples=5, views=0)
