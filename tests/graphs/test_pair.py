"""Two corrupted views of a graph, the recipe around them, and the recipe of hidden nodes that takes any objective."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

import anyview
from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.vicreg import VICReg
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Recipe
from anyview.views.draws import Draws
from anyview.views.view import ViewSet
from anyview_graphs.graph import Graph, add_self_loops
from anyview_graphs.objectives import MaskedFeatures
from anyview_graphs.recipes.masked import masked
from anyview_graphs.recipes.pair import PRESETS, pair
from anyview_graphs.views import CorruptedPair, MaskNodes, without_columns, without_edges

from .conftest import random_graph

SMALL = {"data": "digits", "hidden": 16}


def undirected(nodes: int = 300, features: int = 400, density: float = 0.05) -> Graph:
    generator = torch.Generator().manual_seed(0)
    edges = (torch.rand(nodes, nodes, generator=generator) < 0.05).nonzero().t()
    x = torch.rand(nodes, features, generator=generator) * (torch.rand(nodes, features, generator=generator) < density)
    return add_self_loops(Graph.from_edges(edges, x, undirected=True))


def views_of(graph: Graph, maker: CorruptedPair, seed: int = 0) -> ViewSet:
    batch = Batch(graph, rows=graph.num_nodes, index=torch.arange(graph.num_nodes), labels=torch.arange(graph.num_nodes) % 2)
    return maker(batch, Draws.seeded(seed, total=graph.num_nodes))


def edge_set(graph: Graph) -> set[tuple[int, int]]:
    return set(zip(graph.edges.src.tolist(), graph.edges.dst.tolist(), strict=True))


@pytest.mark.parametrize("density", [0.05, 0.9])
def test_each_view_loses_its_own_share_of_edges_and_columns(density: float) -> None:
    graph = undirected(density=density)
    views = views_of(graph, CorruptedPair((0.2, 0.6), (0.1, 0.5))).views
    assert [view.role for view in views] == ["view", "view"]
    whole, loops = graph.x.to_dense(), {(node, node) for node in range(graph.num_nodes)}
    for view, edges, columns in zip(views, (0.2, 0.6), (0.1, 0.5), strict=True):
        between, kept = edge_set(graph) - loops, edge_set(view.data)
        assert kept - loops < between
        assert loops <= kept
        assert 1 - len(kept - loops) / len(between) == pytest.approx(edges, abs=0.03)
        x = view.data.x.to_dense()
        hidden = (x == 0).all(0) & (whole != 0).any(0)
        assert hidden.float().mean() == pytest.approx(columns, abs=0.1)
        assert torch.equal(x, whole * ~hidden)
        assert view.data.x.layout == graph.x.layout
        assert torch.equal(view.index, torch.arange(graph.num_nodes))
    assert edge_set(views[0].data) != edge_set(views[1].data)


def test_the_columns_of_one_view_are_hidden_whatever_those_of_the_other() -> None:
    graph = undirected(density=0.9)
    first, second = (view.data.x.abs().sum(0) == 0 for view in views_of(graph, CorruptedPair((0.0, 0.0), (0.5, 0.5))).views)
    assert 0.15 < float((first & second).float().mean()) < 0.35


def test_directions_part_company_unless_they_are_dropped_together() -> None:
    graph = undirected()
    for symmetric in (False, True):
        kept = edge_set(without_edges(graph, 0.5, Draws.seeded(0, total=300), symmetric=symmetric))
        both = sum((target, source) in kept for source, target in kept if source != target)
        total = sum(source != target for source, target in kept)
        assert both / total == pytest.approx(1.0 if symmetric else 0.5, abs=0.03)
        assert total / sum(source != target for source, target in edge_set(graph)) == pytest.approx(0.5, abs=0.03)


def test_nothing_is_changed_at_rate_nought_and_the_graph_is_never_written_to() -> None:
    graph = undirected()
    before = graph.x.values().clone()
    assert without_edges(graph, 0.0, Draws.seeded(0, total=300)) is graph
    assert without_columns(graph.x, 0.0, Draws.seeded(0, total=300)) is graph.x
    views_of(graph, CorruptedPair((0.5, 0.5), (0.5, 0.5)))
    assert torch.equal(graph.x.values(), before)


def test_one_seed_gives_one_pair_and_another_seed_another() -> None:
    graph = undirected()
    first, same, other = (views_of(graph, CorruptedPair(), seed) for seed in (0, 0, 1))
    assert [edge_set(view.data) for view in first.views] == [edge_set(view.data) for view in same.views]
    assert torch.equal(first.views[0].data.x.values(), same.views[0].data.x.values())
    assert edge_set(first.views[0].data) != edge_set(other.views[0].data)
    assert torch.equal(first.labels, torch.arange(300) % 2)


@pytest.mark.parametrize("option", ["drop_edges", "mask_features"])
@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_shares_outside_the_range_are_refused(option: str, rate: float) -> None:
    with pytest.raises(UserError, match=f"{option} must lie in"):
        CorruptedPair(**{option: (0.2, rate)})  # type: ignore[arg-type]


def test_hidden_nodes_come_with_the_untouched_graph() -> None:
    graph = random_graph(30, density=0.9)
    made = MaskNodes(0.5, drop_edge=0.3)(Batch(graph, rows=30, index=torch.arange(30)), Draws.seeded(0, total=30))
    (clean,) = made.role("clean")
    assert clean.data is graph
    assert clean.mask is None
    assert torch.equal(clean.index, made.views[0].index)
    assert set(MaskNodes.gives.roles) == {"view", "clean"}


def step(recipe: Recipe, number: int = 0) -> tuple[Losses, Pretrainer]:
    """One step over the recipe's graph."""
    stage, source = recipe.stages[0], recipe.source
    (batch,) = source.batches(anyview.data.source.Epoch())
    shown = StepInput(batch, Draws.seeded(number, total=len(source)), number, 10)
    pretrainer = Pretrainer(stage).train()
    pretrainer.prepare(shown, len(source))
    losses: Losses = pretrainer(shown)
    losses.total.backward()
    return losses, pretrainer


@pytest.mark.parametrize("encoder", ["gcn", "gat", "gin"])
def test_nodes_are_the_rows_of_any_objective(encoder: str) -> None:
    made = pair(**SMALL, encoder=encoder, objective=partial(VICReg, width=16))
    losses, pretrainer = step(made)
    assert losses.total.isfinite()
    assert pretrainer.rows.shape == (1797, 16)
    gradients = {name: parameter.grad for name, parameter in made.embedder.named_parameters() if name != "token"}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())


class FollowsTheClean(Objective):
    """Predict the rows that a teacher gives the untouched graph."""

    needs = Needs(masks=True, roles=("clean",), teacher=True)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.predict = torch.nn.Linear(dim, dim)

    def forward(self, step: Step) -> Losses:
        view, (clean,) = step.views[0], step.set.role("clean")
        target = step.encode(clean, teacher=True).rows[view.mask.hidden]
        return Losses(distance=(self.predict(step.encode(view).rows[view.mask.hidden]) - target).square().mean())


def test_a_masked_graph_takes_other_objectives_than_graphmaes() -> None:
    losses, pretrainer = step(masked(**SMALL, heads=2, objective=FollowsTheClean))
    assert losses.total.isfinite()
    assert pretrainer.encoder.token.grad.abs().sum() > 0
    losses, pretrainer = step(masked(**SMALL, heads=2))
    assert isinstance(pretrainer.tasks[0].objective, MaskedFeatures)
    assert losses.total.isfinite()
    with pytest.raises(UserError, match="MaskedFeatures needs views of role 'clean', masked views, which CorruptedPair does not give"):
        pair(**SMALL, objective=MaskedFeatures)
    with pytest.raises(UserError, match=r"VICReg needs 2 views .*, which MaskNodes does not give"):
        masked(**SMALL, objective=VICReg)


def test_the_grid_s_presets_are_small_and_published_ones_keep_their_rates() -> None:
    assert (PRESETS["cora"]["drop_edges"], PRESETS["cora"]["mask_features"]) == ((0.2, 0.4), (0.3, 0.4))  # GRACE's table
    assert pair.resolve({"data": "citeseer"})[0]["drop_edges"] == (0.2, 0.0)
    for recipe in (pair, masked):
        assert len(recipe(preset="grid").source) == 178


def test_a_run_is_saved_loaded_and_embeds_every_node(tmp_path: Path) -> None:
    run = anyview.pretrain("graphs/pair", tmp_path / "run", **SMALL, epochs=3, objective=partial(VICReg, width=16), drop_edges=(0.1, 0.3))
    again = anyview.load(tmp_path / "run")
    assert tuple(again.recipe.values["drop_edges"]) == (0.1, 0.3)
    assert (again.embed("digits") == run.embed()).all()
    assert run.embed().shape == (1797, 16)


def test_it_learns_on_cora(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    run = anyview.pretrain("graphs/pair", tmp_path / "run", data="cora", epochs=40, warmup=4, hidden=64)
    (result,) = run.evaluate(["knn"], seeds=1)
    assert result.mean("trained encoder") > result.mean("random encoder") + 0.03
