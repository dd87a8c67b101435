from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.testing import check_objective, check_stage_rank_exact, tiny_stage
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.generated import generate
from anyview_recommenders.graph_transformer import LoopedGraph, TransformerConvolution, closeness
from anyview_recommenders.recipes.gformer import GFormer, gformer
from tests.small_runs import assert_ends_alike_after_a_stop

from . import plain
from .plain import DIM, ITEMS, USERS, same, small_batch, small_log, small_triples, step_of

MADE = partial(GFormer, matrix=small_log(), anchors=5, redraw=1, keep=0.6, share=0.3)
NODES = USERS + ITEMS


pytestmark = pytest.mark.usefixtures("double")


def encoder() -> TransformerConvolution:
    return TransformerConvolution(small_log(), DIM, layers=2, heads=2, deviation=0.5)


def begun(objective: GFormer, made: TransformerConvolution, epoch: int = 0) -> Step:
    step = step_of(made)
    with torch.no_grad():
        objective.before_epoch(epoch, lambda: iter([step]))
    return step


def matrix(graph: LoopedGraph) -> torch.Tensor:
    return graph.pattern.matrix(graph.entries).to_dense()


def test_it_is_the_papers_losses_on_the_graphs_that_were_drawn() -> None:
    made, objective = encoder(), MADE(DIM, partition=0.7, rationale=0.6, independence=0.3, l2=0.01)
    step = begun(objective, made)
    users, items, others, unique_users, unique_items = plain.batch_nodes(step)
    graphs, start = objective.graphs(made), made.embedding
    one = matrix(graphs.encoder) @ start
    two = matrix(graphs.encoder) @ one
    rows = start + one + two + made.attend(graphs.decoder.pattern, two)
    rationale, complement = (
        start + 0.1 * made.attend(graph.pattern, start) + matrix(graph) @ start + matrix(graph) @ one
        for graph in (graphs.rationale, graphs.complement)
    )

    def partition(nodes: list[int], keys: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.log(sum(torch.exp(rows[node] @ key) for key in keys)) for node in nodes]).mean()

    own = torch.stack([rows[u] @ rows[p] for u, p in zip(users, items, strict=True)]).mean()
    triples = zip(users, items, others, strict=True)
    ranked = [torch.sigmoid(rationale[u] @ rationale[p] - rationale[u] @ rows[n]).log() for u, p, n in triples]
    alike = [torch.log(torch.exp(rationale[u] * complement[u]).sum()) for u in users]
    expected = {
        "softmax": partition(users, rows[USERS:]) - own,
        "partition": 0.7 * (partition(unique_users, rows[:USERS]) + partition(unique_items, rows[USERS:])),
        "rationale": -0.6 * torch.stack(ranked).mean(),
        "independence": 0.3 * torch.stack(alike).mean(),
        "l2": 0.01 * sum((weight * weight).sum() for weight in made.parameters()),
    }
    same(objective, made, step, expected)
    weights = list(made.parameters())
    found = objective(begun_again(step, objective, made))
    for ours, theirs in zip(*(torch.autograd.grad(sum(one.values()), weights) for one in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def begun_again(step: Step, objective: GFormer, made: TransformerConvolution) -> Step:
    """The same step, of the same graphs, with nothing remembered."""
    return Step(step.set, step.batch, step.draws, step.number, step.steps, made)


def test_edges_are_scored_by_attention_between_embeddings_with_positions() -> None:
    made, objective = encoder(), MADE(DIM)
    begun(objective, made)
    keys = objective.candidates(made)
    close = closeness(made.whole, objective.anchors)
    seen = [sum(one * made.embedding[anchor] for one, anchor in zip(own, objective.anchors, strict=True)) for own in close]
    placed = made.embedding + torch.stack(seen) / len(objective.anchors)
    attention = made.attend.weights(LoopedGraph(keys, NODES).pattern, placed)
    torch.testing.assert_close(objective.scores[: len(keys)], sum(attention).detach())
    assert not objective.scores[len(keys) :].any()
    torch.testing.assert_close(objective.scores.sum(), torch.tensor(2.0 * NODES))  # a softmax for each node and head


def test_anchors_are_of_an_epoch_and_graphs_of_some_steps() -> None:
    made, objective = encoder(), MADE(DIM, redraw=3)
    changed, anchors = [], []
    for number in range(6):
        step = begun(objective, made, epoch=number)
        step.number = number
        anchors.append(objective.anchors.tolist())
        graphs = objective.graphs(made)
        assert objective.graphs(made) is graphs
        objective.after_step(step)
        changed.append(objective.graphs(made) is not graphs)
    assert changed == [False, False, True, False, False, True]
    assert len({tuple(own) for own in anchors}) == 6


def test_a_state_brings_its_graphs_back() -> None:
    made, first, other = encoder(), MADE(DIM), MADE(DIM)
    begun(first, made)
    begun(other, made)
    assert not torch.equal(first.graphs(made).encoder.keys, other.graphs(made).encoder.keys)
    other.load_state_dict(first.state_dict())
    for name in ("encoder", "decoder", "rationale", "complement"):
        assert torch.equal(getattr(first.graphs(made), name).keys, getattr(other.graphs(made), name).keys)
    for objective in (first, other):
        objective.score(made, seed=7)
    assert torch.equal(first.scores, other.scores)  # by the same anchors


def test_shares_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match=r"keep is a share of the edges, above 0 and at most 1, and 0 was given; try 0\.9"):
        GFormer(DIM, small_log(), keep=0.0)
    with pytest.raises(UserError, match=r"share is a share of the edges, above 0 and at most 1, and 1\.5 was given; try 0\.1"):
        GFormer(DIM, small_log(), share=1.5)


def test_it_keeps_the_contract() -> None:
    torch.set_default_dtype(torch.float32)
    check_objective(MADE, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    torch.set_default_dtype(torch.float32)
    check_stage_rank_exact(partial(tiny_stage, MADE, small_triples, encoder), small_batch)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)

    options = {"dim": 8, "epochs": 2, "batch_size": 256, "lr": 0.02, "redraw": 2}
    assert_ends_alike_after_a_stop(lambda: gformer(open_interactions(generate(60, 50)), **options), tmp_path, step=3)
