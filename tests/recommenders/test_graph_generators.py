"""Graphs that are learned: what the autoencoder keeps, and the denoiser's gates, against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.objectives import contrast
from anyview_recommenders.graph_convolution import convolve, normalised_adjacency
from anyview_recommenders.graph_generators import GraphAutoencoder, GraphDenoiser, divergence, hard_concrete, open_share

from .plain import DIM, ITEMS, USERS, small_log

pytestmark = pytest.mark.usefixtures("double")


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    mean, deviation = torch.randn(3, 4), torch.rand(3, 4) + 0.1
    ours = torch.distributions.Normal(mean, deviation)
    theirs = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    torch.testing.assert_close(divergence(mean, deviation), torch.distributions.kl_divergence(ours, theirs).sum(1).mean())


def test_codes_follow_the_noise_that_they_are_given() -> None:
    made, rows, noise = GraphAutoencoder(DIM), torch.randn(5, DIM), torch.randn(5, DIM)
    codes, distance = made(rows, noise)
    mean = made(rows, torch.zeros(5, DIM))[0]
    deviation = made(rows, torch.ones(5, DIM))[0] - mean
    assert bool((deviation > 0).all())
    torch.testing.assert_close(codes, mean + deviation * noise)
    torch.testing.assert_close(distance, divergence(mean, deviation))


@pytest.mark.parametrize("block", [contrast.BLOCK, 3 * DIM])
def test_interactions_that_are_likely_stay_and_count_for_the_others(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "BLOCK", block)
    made, adjacency = GraphAutoencoder(DIM), normalised_adjacency(small_log())
    codes = torch.randn(USERS + ITEMS, DIM)
    whole = adjacency.matrix.to_dense()
    keep = torch.zeros_like(whole)
    for user, item in zip(*small_log().nonzero(), strict=True):
        likely = torch.sigmoid(made.decode(codes[int(user)] * codes[USERS + int(item)])) >= 0.5
        keep[int(user), USERS + int(item)] = keep[USERS + int(item), int(user)] = float(likely)
    share = float(keep.sum() / (whole > 0).sum())
    assert 0 < share < 1
    torch.testing.assert_close(made.graph(adjacency, codes).matrix.to_dense(), whole * keep / share)


def test_a_graph_without_a_likely_interaction_is_empty_and_finite() -> None:
    made, adjacency = GraphAutoencoder(DIM), normalised_adjacency(small_log())
    with torch.no_grad():
        made.decode[-1].bias.fill_(-100.0)
    _, layer = convolve(made.graph(adjacency, torch.randn(USERS + ITEMS, DIM)), torch.randn(USERS + ITEMS, DIM), layers=1)
    assert not layer.any()


def plain_gate(logit: Tensor, number: float | None, temperature: float) -> Tensor:
    if number is not None:
        logit = (math.log(number) - math.log(1 - number) + logit) / temperature
    return torch.clamp(torch.sigmoid(logit) * (1.05 + 0.45) - 0.45, 0, 1)


@pytest.mark.parametrize("drawn", [False, True])
def test_the_denoiser_is_the_papers_formula_entry_by_entry(drawn: bool) -> None:
    made, rows = GraphDenoiser(small_log(), DIM, layers=2), torch.randn(USERS + ITEMS, DIM, requires_grad=True)
    places = normalised_adjacency(small_log()).matrix.to_dense().nonzero().tolist()
    numbers = torch.rand(2, len(places))
    expected, shares = [rows], torch.zeros(())
    for layer in range(2):
        head, tail = made.of_heads[layer], made.of_tails[layer]
        concat = torch.cat([head[-1].weight[0], tail[-1].weight[0]])
        bias = head[-1].bias + tail[-1].bias
        gates = torch.zeros(USERS + ITEMS, USERS + ITEMS)
        for number, (h, t) in enumerate(places):
            relus = torch.cat([torch.relu(head[0](expected[-1][h])), torch.relu(tail[0](expected[-1][t]))])
            logit = (concat @ relus + bias)[0]
            gates[h, t] = plain_gate(logit, float(numbers[layer, number]) if drawn else None, 0.7)
            shares = shares + torch.sigmoid(logit - 0.7 * math.log(0.45 / 1.05)) / len(places)
        scale = ((gates.sum(1) + 1e-6) ** -0.5).clamp(max=10)
        matrix = scale[:, None] * gates * scale[None, :]
        expected.append((matrix if drawn else matrix.detach()) @ expected[-1])
    found, share = made.noisy(rows, numbers, 0.7) if drawn else (made(rows), shares)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(share, shares, rtol=1e-10, atol=0)
    weight = torch.randn(USERS + ITEMS, DIM)
    inputs = [rows, *made.parameters()]
    ours, theirs = (
        torch.autograd.grad((layers[-1] * weight).sum(), inputs, allow_unused=True, retain_graph=True) for layers in (found, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)
    assert all((gradient is not None) == drawn for gradient in ours[1:])


def test_gates_that_are_drawn_are_open_as_often_as_expected_and_some_are_exactly_shut_or_open() -> None:
    logits = torch.tensor([-1.0, 0.0, 1.5]).repeat_interleave(20_000)
    gates = hard_concrete(logits, 0.5, torch.rand(len(logits)))
    assert bool((gates == 0).any())
    assert bool((gates == 1).any())
    for logit, part in zip((-1.0, 0.0, 1.5), gates.chunk(3), strict=True):
        assert float((part > 0).double().mean()) == pytest.approx(float(open_share(torch.tensor([logit]), 0.5)), abs=0.01)


def test_gates_that_are_all_shut_leave_rows_of_zeros() -> None:
    made, rows = GraphDenoiser(small_log(), DIM, layers=1), torch.randn(USERS + ITEMS, DIM)
    with torch.no_grad():
        made.of_heads[0][-1].bias.fill_(-100.0)
    assert not made(rows)[1].any()
    layers, share = made.noisy(rows, torch.rand(1, len(made.pattern)), 0.05)
    torch.autograd.grad(layers[1].sum() + share, list(made.parameters()))
    assert not layers[1].any()


def test_without_a_layer_there_is_nothing_to_gate() -> None:
    with pytest.raises(UserError, match="for the interactions of each layer, and layers is 0"):
        GraphDenoiser(small_log(), DIM, layers=0)
