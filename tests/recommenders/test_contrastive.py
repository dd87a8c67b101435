"""SGL, SimGCL, XSimGCL and DirectAU against their formulas, their contract, and several processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.objectives.objective import Objective, Step
from anyview.testing import check_objective, check_stage_rank_exact, tiny_stage
from anyview_recommenders.batch_nodes import drawn
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.noise import NoisyGraphConvolution, noisy
from anyview_recommenders.objectives import BPR
from anyview_recommenders.recipes.direct_au import DirectAU
from anyview_recommenders.recipes.sgl import SGL
from anyview_recommenders.recipes.simgcl import SimGCL
from anyview_recommenders.recipes.xsimgcl import XSimGCL

from . import plain
from .plain import DIM, both_sides, bpr, half_squares, layers_of, same, small_batch, small_log, small_triples, step_of

pytestmark = pytest.mark.usefixtures("double")


def light() -> LightGraphConvolution:
    return LightGraphConvolution(small_log(), DIM, layers=2, deviation=1.0)


def with_noise() -> NoisyGraphConvolution:
    return NoisyGraphConvolution(small_log(), DIM, layers=2, deviation=1.0)


def mean(layers: list[Tensor]) -> Tensor:
    return torch.stack(layers).mean(0)


def ranking_terms(rows: Tensor, embeddings: Tensor, step: Step, l2: float, others: bool = True) -> dict[str, Tensor]:
    users, items, negatives, *_ = plain.batch_nodes(step)
    lengths = half_squares(embeddings, users, items, negatives) if others else half_squares(embeddings, users, items)
    return {"bpr": bpr(rows, step), "l2": l2 * lengths}


@pytest.mark.parametrize("dropped", ["edge", "node", "walk"])
def test_sgl_contrasts_the_epoch_s_two_graphs(dropped: str) -> None:
    encoder, objective = light(), SGL(DIM, weight=0.7, temperature=0.3, dropped=dropped, rate=0.3, l2=0.01)
    objective.before_epoch(0, lambda: iter(()))
    step = step_of(encoder)
    first, second = objective.graphs(encoder)
    a, b = (mean(layers_of(graph, encoder.embedding, 2)) for graph in (first, second))
    assert not torch.allclose(a, b)
    clean = mean(layers_of(encoder.adjacency, encoder.embedding, 2))
    expected = ranking_terms(clean, encoder.embedding, step, 0.01)
    same(objective, encoder, step, {**expected, "contrast": 0.7 * both_sides(a, b, step, 0.3)})


def test_sgl_that_drops_nothing_contrasts_equal_rows() -> None:
    encoder, objective = light(), SGL(DIM, rate=0.0)
    step = step_of(encoder)
    rows = mean(layers_of(encoder.adjacency, encoder.embedding, 2))
    torch.testing.assert_close(objective(step)["contrast"], 0.1 * both_sides(rows, rows, step, 0.2))
    assert torch.equal(objective(step)["bpr"], BPR(DIM)(step)["bpr"])


def test_sgl_keeps_an_epoch_s_graphs_and_draws_new_ones_for_the_next() -> None:
    encoder, objective = light(), SGL(DIM, rate=0.5)
    seen = []
    for epoch in range(2):
        objective.before_epoch(epoch, lambda: iter(()))
        seen.append([graph.columns.tolist() for graph in objective.graphs(encoder)])
        assert objective.graphs(encoder) is objective.graphs(encoder)
    assert seen[0][0] != seen[0][1]
    assert seen[0] != seen[1]


def test_sgl_draws_the_saved_epoch_s_graphs_after_a_resume() -> None:
    encoder, first, resumed = light(), SGL(DIM, rate=0.5), SGL(DIM, rate=0.5)
    for objective in (first, resumed):
        objective.before_epoch(0, lambda: iter(()))
        objective.graphs(encoder)
    resumed.load_state_dict(first.state_dict())
    for ours, theirs in zip(first.graphs(encoder), resumed.graphs(encoder), strict=True):
        assert torch.equal(ours.columns, theirs.columns)


def test_simgcl_ranks_without_noise_and_contrasts_two_noisy_passes() -> None:
    encoder, objective = with_noise(), SimGCL(DIM, weight=0.7, temperature=0.3, noise=0.2, l2=0.01)
    step = step_of(encoder)
    a, b = (mean(noisy_layers(encoder, noisy(step.draws, 0.2, number)["seed"], 0.2)[1:]) for number in range(2))
    clean = mean(layers_of(encoder.adjacency, encoder.embedding, 2)[1:])
    expected = ranking_terms(clean, encoder.embedding, step, 0.01)
    same(objective, encoder, step, {**expected, "contrast": 0.7 * both_sides(a, b, step, 0.3)})


def test_xsimgcl_ranks_and_contrasts_one_noisy_pass() -> None:
    encoder, objective = with_noise(), XSimGCL(DIM, layer=1, weight=0.7, temperature=0.3, noise=0.2, l2=0.01)
    step = step_of(encoder)
    layers = noisy_layers(encoder, noisy(step.draws, 0.2)["seed"], 0.2)
    rows = mean(layers[1:])
    expected = ranking_terms(rows, encoder.embedding, step, 0.01, others=False)
    same(objective, encoder, step, {**expected, "contrast": 0.7 * both_sides(rows, layers[1], step, 0.3)})


def test_xsimgcl_contrasts_a_few_nodes_where_it_is_asked_to() -> None:
    encoder = with_noise()
    step = step_of(encoder)
    every = [len(side) for side in plain.batch_nodes(step)[3:]]
    assert min(every) > 3
    few, whole = XSimGCL(DIM, contrasted=3)(step), XSimGCL(DIM)(step)
    assert torch.equal(XSimGCL(DIM, contrasted=max(every))(step)["contrast"], whole["contrast"])
    layers = noisy_layers(encoder, noisy(step.draws, 0.2)["seed"], 0.2)
    rows, contrast = mean(layers[1:]), torch.zeros(())
    for number, nodes in enumerate(plain.batch_nodes(step)[3:]):
        chosen = drawn(torch.tensor(nodes), 3, step, number)
        assert len(set(chosen.tolist()) & set(nodes)) == 3
        a, b = (part[chosen] / part[chosen].norm(dim=1, keepdim=True) for part in (rows, layers[1]))
        contrast = contrast - (a @ b.T / 0.15).log_softmax(1).diagonal().mean()
    torch.testing.assert_close(few["contrast"], 0.2 * contrast)
    assert torch.equal(few["bpr"], whole["bpr"])


def test_other_nodes_are_drawn_in_another_step() -> None:
    encoder = with_noise()
    chosen = [drawn(torch.arange(50), 10, step_of(encoder, seed=seed), 0).tolist() for seed in (0, 1)]
    assert chosen[0] != chosen[1]
    assert chosen[0] == sorted(chosen[0])


def test_a_single_node_cannot_be_contrasted() -> None:
    with pytest.raises(UserError, match="contrasted is 1; give 2 or more"):
        XSimGCL(DIM, contrasted=1)


def test_xsimgcl_propagates_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, calls = with_noise(), []
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda view: calls.append(view) or forward(view))
    XSimGCL(DIM)(step_of(encoder))
    assert len(calls) == 1


def noisy_layers(encoder: NoisyGraphConvolution, seed: int, length: float) -> list[Tensor]:
    dense, generator = encoder.adjacency.matrix.to_dense(), torch.Generator().manual_seed(seed)
    found = [encoder.embedding]
    for _ in range(encoder.depth):
        product = dense @ found[-1]
        noise = torch.rand(product.shape, generator=generator)
        found.append(product + length * product.sign() * noise / noise.norm(dim=1, keepdim=True))
    return found


def test_a_layer_that_the_encoder_lacks_is_refused() -> None:
    with pytest.raises(UserError, match="layer 5 is to be contrasted, and the encoder has layers 0 to 2"):
        XSimGCL(DIM, layer=5)(step_of(with_noise()))


def test_direct_au_aligns_pairs_and_spreads_users_and_items() -> None:
    encoder, objective = light(), DirectAU(DIM, uniformity=0.6, l2=0.01)
    step = step_of(encoder)
    rows = mean(layers_of(encoder.adjacency, encoder.embedding, 2))
    unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    users, items, _, unique_users, unique_items = plain.batch_nodes(step)
    spreads = []
    for nodes in (unique_users, unique_items):
        pairs = [torch.exp(-2 * (unit[x] - unit[y]).square().sum()) for x in nodes for y in nodes if x != y]
        spreads.append(torch.log(torch.stack(pairs).mean()))
    expected = {
        "alignment": torch.stack([(unit[u] - unit[i]).square().sum() for u, i in zip(users, items, strict=True)]).mean(),
        "uniformity": 0.6 * (spreads[0] + spreads[1]) / 2,
        "l2": 0.01 * half_squares(encoder.embedding, users, items),
    }
    same(objective, encoder, step, expected)


OBJECTIVES: dict[str, tuple[Callable[[int], Objective], Callable[[], LightGraphConvolution]]] = {
    "sgl": (partial(SGL, rate=0.3), light),
    "sgl, walk": (partial(SGL, rate=0.3, dropped="walk"), light),
    "simgcl": (SimGCL, with_noise),
    "xsimgcl": (XSimGCL, with_noise),
    "xsimgcl, a few": (partial(XSimGCL, contrasted=3), with_noise),
    "direct_au": (DirectAU, light),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_keep_the_contract(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    objective, encoder = OBJECTIVES[name]
    check_objective(objective, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_are_one(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    objective, encoder = OBJECTIVES[name]
    check_stage_rank_exact(partial(tiny_stage, objective, small_triples, encoder), small_batch)
