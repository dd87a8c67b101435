from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from anyview.testing import check_objective, check_stage_rank_exact, tiny_stage
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.generated import generate
from anyview_recommenders.recipes.adagcl import AdaGCL, adagcl
from tests.small_runs import assert_ends_alike_after_a_stop

from . import plain
from .plain import DIM, ITEMS, USERS, bpr, half_squares, layers_of, small_batch, small_log, small_triples, step_of

MADE = partial(AdaGCL, matrix=small_log())


pytestmark = pytest.mark.usefixtures("double")


def encoder() -> LightGraphConvolution:
    return LightGraphConvolution(small_log(), DIM, layers=2, deviation=1.0)


def without_own(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """-log of a pair's exp(cosine / temperature) over the sum of those with all others, a mean."""
    losses = []
    for place, query in enumerate(a):
        scores = torch.stack([torch.exp((query @ key) / (query.norm() * key.norm()) / temperature) for key in b])
        losses.append(-torch.log(scores[place] / (scores.sum() - scores[place])))
    return torch.stack(losses).mean()


def test_it_is_the_papers_losses_and_each_has_a_gradient_to_its_own_model_alone() -> None:
    made = encoder()
    objective = MADE(DIM, contrast=0.7, bottleneck=0.3, temperature=0.4, divergence=0.2, sparsity=0.5, l2=0.01)
    step, again = step_of(made), step_of(made).draws
    step.number, step.epochs = 3, 100  # of 10 steps: after 30 passes
    autoencoder, denoiser = objective.autoencoder, objective.denoiser
    noise = torch.randn(USERS + ITEMS, DIM, generator=again.generator)
    users, items, others, unique_users, unique_items = plain.batch_nodes(step)

    rows = sum(layers_of(made.adjacency, made.embedding, 2)) / 3
    mean = autoencoder.mean(rows.detach())
    deviation = torch.log(1 + torch.exp(autoencoder.deviation(rows.detach()))) + 1e-8
    codes = mean + deviation * noise
    kl = torch.stack([0.5 * (m * m + s * s - 1 - torch.log(s * s)).sum() for m, s in zip(mean, deviation, strict=True)]).mean()
    likely = [torch.sigmoid(autoencoder.decode(codes[users] * codes[side])) for side in (items, others)]
    entropy = binary_cross_entropy(likely[0], torch.ones_like(likely[0])) + binary_cross_entropy(likely[1], torch.zeros_like(likely[1]))

    first = sum(layers_of(autoencoder.graph(made.adjacency, codes), made.embedding, 2)) / 3
    second = sum(denoiser(made.embedding)) / 3
    a, b = (view[unique_users + unique_items] for view in (first, second))
    temperature = 2 * 0.98**30
    gated, share = denoiser.noisy(made.embedding.detach(), again.shared_uniform(2, 2 * small_log().nnz), temperature)
    expected = {
        "bpr": bpr(rows, step),
        "l2": 0.01 * half_squares(made.embedding, users, items, others),
        "contrast": 0.7 * without_own(a, b, 0.4),
        "bottleneck": 0.3 * (without_own(a, a.detach(), 0.4) + without_own(b, b.detach(), 0.4)),
        "generator": entropy + bpr(codes, step) + 0.2 * kl,
        "denoiser": bpr(sum(gated) / 3, step) + 0.5 * share,
    }
    found = objective(step)
    assert found.keys() == expected.keys()
    models = {"encoder": list(made.parameters()), "generator": list(autoencoder.parameters()), "denoiser": list(denoiser.parameters())}
    for name, term in found.items():
        torch.testing.assert_close(term, expected[name], rtol=1e-10, atol=1e-12)
        for model, weights in models.items():
            ours, theirs = (torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True) for loss in (term, expected[name]))
            for one, other in zip(ours, theirs, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)
                assert (one is not None) == (model == (name if name in models else "encoder"))


def test_it_keeps_the_contract() -> None:
    torch.set_default_dtype(torch.float32)
    check_objective(MADE, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    torch.set_default_dtype(torch.float32)
    check_stage_rank_exact(partial(tiny_stage, MADE, small_triples, encoder), small_batch)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)

    assert_ends_alike_after_a_stop(
        lambda: adagcl(open_interactions(generate(60, 50)), dim=8, epochs=2, batch_size=256, lr=0.02), tmp_path, step=3
    )
