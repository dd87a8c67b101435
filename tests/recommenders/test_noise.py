from __future__ import annotations

import pytest
import torch

from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.noise import NoisyGraphConvolution, add_noise, noisy

from .plain import DIM, ITEMS, USERS, layers_of, small_log

ALL = torch.arange(USERS + ITEMS)


pytestmark = pytest.mark.usefixtures("double")


def encoder(layers: int = 3) -> NoisyGraphConvolution:
    torch.manual_seed(0)
    return NoisyGraphConvolution(small_log(), DIM, layers=layers)


def test_noise_has_its_length_and_keeps_every_sign() -> None:
    rows = torch.randn(200, DIM)
    moved = add_noise(rows, 0.3, torch.Generator().manual_seed(0))
    torch.testing.assert_close((moved - rows).norm(dim=1), torch.full((200,), 0.3))
    assert torch.equal(moved.sign(), rows.sign())
    assert bool(((moved - rows) * rows > 0).all())


def test_noise_is_of_another_direction_for_each_node_and_passes_the_gradient() -> None:
    rows = torch.ones(5, DIM, requires_grad=True)
    moved = add_noise(rows, 1.0, torch.Generator().manual_seed(0))
    assert len((moved - rows).detach().unique(dim=0)) == 5
    weights = torch.randn(5, DIM)
    (gradient,) = torch.autograd.grad((weights * moved).sum(), rows)
    assert torch.equal(gradient, weights)


def test_a_row_of_zeros_stays_and_is_finite() -> None:
    assert not add_noise(torch.zeros(2, DIM), 0.1, torch.Generator().manual_seed(0)).any()


def test_rows_are_the_mean_of_the_layers_after_the_embeddings() -> None:
    made = encoder()
    found = made(View({"nodes": ALL}))
    layers = layers_of(made.adjacency, made.embedding, 3)
    torch.testing.assert_close(found.rows, torch.stack(layers[1:]).mean(0))
    for ours, theirs in zip(found.layers, layers, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_every_layer_reads_the_noisy_one_below() -> None:
    made = encoder(layers=2)
    found = made(View({"nodes": ALL, "noise": 0.2, "seed": 5}))
    generator = torch.Generator().manual_seed(5)
    dense, rows = made.adjacency.matrix.to_dense(), made.embedding
    expected = [rows]
    for _ in range(2):
        product = dense @ expected[-1]
        noise = torch.rand(product.shape, generator=generator)
        expected.append(product + 0.2 * product.sign() * noise / noise.norm(dim=1, keepdim=True))
    torch.testing.assert_close(found.rows, (expected[1] + expected[2]) / 2)
    torch.testing.assert_close(found.layers[2], expected[2])


def test_one_seed_gives_one_noise_and_rows_are_those_of_the_nodes_asked_for() -> None:
    made, some = encoder(), torch.tensor([20, 3, 3])
    shown = {"noise": 0.2, "seed": 7}
    first, again, other = (made(View({"nodes": ALL, **shown, "seed": seed})).rows for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert torch.equal(made(View({"nodes": some, **shown})).rows, first[some])


def test_noise_follows_the_step_and_the_number_of_the_view() -> None:
    draws = [Draws.seeded(seed, total=4) for seed in (0, 0, 1)]
    first, again, other = (noisy(one, 0.1, 0)["seed"] for one in draws)
    assert first == again != other
    assert noisy(draws[0], 0.1, 1)["seed"] != first
    draws[0].uniform()
    assert noisy(draws[0], 0.1, 0)["seed"] == first


def test_what_makes_no_rows_is_refused() -> None:
    with pytest.raises(UserError, match="layers is 0; give at least one"):
        encoder(layers=0)
    with pytest.raises(UserError, match="noise has a length of 0 or more"):
        noisy(Draws.seeded(0, total=1), -0.1)
