"""Intents: the paper's contrast written out, clusters of all sequences, and processes that agree on them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.testing import check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.intent_contrast import IntentContrast, intent_losses, mean_state
from anyview_recommenders.sequence_views import Augmented

from .test_sequences import DIM, batch, encoder, rows, source

MADE = partial(IntentContrast, intents=4)


def numbered() -> Batch:
    """The batch as if there were no other sequences."""
    return replace(batch(), index=torch.arange(12))


def plain(state: Tensor, centroids: Tensor, intents: Tensor, own: int, *, alike: bool) -> Tensor:
    """-log of the share of exp(h·c_u / τ) among the centroids of the other sequences, without those of the same intent, and its own."""
    score = {v: torch.exp(state @ centroids[intents[v]] / 0.7) for v in range(len(intents))}
    negatives = [score[v] for v in score if v != own and (alike or intents[v] != intents[own])]
    return -torch.log(score[own] / (score[own] + sum(negatives)))


@pytest.mark.parametrize("alike", [False, True])
def test_the_contrast_is_the_papers_formula(alike: bool) -> None:
    states, centroids, intents = rows(7, 3), rows(6, 3, seed=1).detach(), torch.tensor([2, 0, 2, 5, 5, 2, 1])
    ours = intent_losses(states, centroids, intents, 0.7, alike=alike)
    theirs = torch.stack([plain(state, centroids, intents, own, alike=alike) for own, state in enumerate(states)])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(losses.mean(), [states])[0] for losses in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)


def test_sequences_of_one_intent_have_nothing_to_be_told_from() -> None:
    same = torch.zeros(5, dtype=torch.long)
    assert not intent_losses(rows(5, 3), rows(2, 3), same).detach().any()
    assert float(intent_losses(rows(1, 3), rows(2, 3), same[:1]).detach()) == 0
    long = intent_losses(1e3 * rows(5, 3), rows(9, 3), torch.arange(5))
    assert long.isfinite().all()


def test_means_are_of_items_alone_wherever_they_stand() -> None:
    made = encoder().double().eval()
    sequence = torch.tensor([[0, 0, 3, 1, 7], [2, 5, 4, 6, 1], [0, 0, 0, 0, 0]])
    found = made(View({"sequence": sequence}))
    means = mean_state(found)
    torch.testing.assert_close(means[0], found.tokens[0, 2:].mean(0))
    torch.testing.assert_close(means[1], found.tokens[1].mean(0))
    torch.testing.assert_close(means[0], mean_state(made(View({"sequence": torch.tensor([[3, 1, 7]])})))[0])
    assert not means[2].any()


def looked(objective: IntentContrast, *, drop: float = 0.0) -> tuple[IntentContrast, Step]:
    """An objective after its look at the batch, and a step over it."""
    torch.manual_seed(0)
    draws = Draws.seeded(0, total=12)
    step = Step(Augmented()(batch(), draws), batch(), draws, 0, 10, encoder(drop=drop).train())
    objective.prepare(step.set, len(source()))
    with torch.no_grad():
        objective.before_epoch(0, lambda: iter([step]))
    step.memo.clear()
    return objective, step


def test_each_sequence_has_the_nearest_of_unit_centroids_by_its_whole_self() -> None:
    objective, step = looked(MADE(DIM), drop=0.5)
    assert step.encoder.training
    [whole] = step.set.role("clean")
    torch.testing.assert_close(objective.centroids.norm(dim=1), torch.ones(4))
    means = mean_state(step.encoder.eval()(whole))
    torch.testing.assert_close(objective.intents[batch().index], (means @ objective.centroids.T).argmax(1))
    assert len(objective.intents[batch().index].unique()) > 1
    step.encoder.train()


def test_the_loss_is_the_mean_over_both_views() -> None:
    objective, step = looked(MADE(DIM, temperature=0.7))
    intents, losses = objective.intents[batch().index], []
    for view in step.seen_whole:
        states = mean_state(step.encode(view))
        losses += [plain(state, objective.centroids, intents, own, alike=False) for own, state in enumerate(states)]
    torch.testing.assert_close(objective(step)["intent"], torch.stack(losses).mean())


def test_it_keeps_the_contract_and_two_processes_are_one() -> None:
    check_objective(MADE, make_views=Augmented, make_encoder=encoder, make_batch=numbered)
    check_stage_rank_exact(partial(tiny_stage, MADE, Augmented, encoder), numbered)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="13 intents were asked for, of 12 sequences"):
        looked(IntentContrast(DIM, intents=13))
    with pytest.raises(UserError, match="a temperature above 0"):
        IntentContrast(DIM, temperature=0.0)
    with pytest.raises(UserError, match="at least 1 intent"):
        IntentContrast(DIM, intents=0)
