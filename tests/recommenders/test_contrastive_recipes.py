"""The recipes of contrastive recommenders: what is given arrives, a step moves every parameter, and a run learns to rank."""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

import anyview
from anyview.data.source import Epoch
from anyview.errors import UserError
from anyview.objectives.masked_reconstruction import MaskedReconstruction
from anyview.objectives.simclr import SimCLR
from anyview.objectives.vicreg import VICReg
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Recipe, RecipeFunction
from anyview.views.draws import Draws
from anyview_recommenders.baselines.popularity import popularity
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.evaluations import score_part, scorer_of
from anyview_recommenders.generated import generate
from anyview_recommenders.noise import NoisyGraphConvolution
from anyview_recommenders.recipes.adagcl import adagcl
from anyview_recommenders.recipes.contrast import contrast
from anyview_recommenders.recipes.direct_au import direct_au
from anyview_recommenders.recipes.gformer import gformer
from anyview_recommenders.recipes.lightgcl import lightgcl
from anyview_recommenders.recipes.ncl import ncl
from anyview_recommenders.recipes.sgl import sgl
from anyview_recommenders.recipes.simgcl import simgcl
from anyview_recommenders.recipes.xsimgcl import xsimgcl
from anyview_recommenders.scorer import Scorer
from anyview_recommenders.source import InteractionSource

from .small_runs import assert_learns_to_rank

LOG = generate(60, 50)
SMALL: dict[str, Any] = {"dim": 8, "layers": 2, "batch_size": 256, "lr": 0.02, "l2": 0.003, "deviation": 0.2}
OWN: dict[RecipeFunction, dict[str, Any]] = {
    sgl: {"weight": 0.3, "temperature": 0.4, "dropped": "walk", "rate": 0.25},
    simgcl: {"weight": 0.3, "temperature": 0.4, "noise": 0.05},
    xsimgcl: {"layer": 2, "weight": 0.3, "temperature": 0.4, "noise": 0.05},
    direct_au: {"uniformity": 0.7},
    lightgcl: {"rank": 4, "weight": 0.3, "temperature": 0.4},
    ncl: {"structure": 0.3, "prototype": 0.2, "prototypes": 5, "temperature": 0.4, "items_weight": 1.5, "warmup": 0},
    adagcl: {"contrast": 0.3, "bottleneck": 0.2, "temperature": 0.4, "divergence": 0.3, "sparsity": 0.1},
    gformer: {"redraw": 5, "keep": 0.7, "share": 0.2, "partition": 0.5, "rationale": 0.4, "independence": 0.1},
}
CASES = [pytest.param(make, own, id=make.__name__) for make, own in OWN.items()]


def first_step(recipe: Recipe) -> Pretrainer:
    """The stage's module after the first step's backward pass."""
    stage, source = recipe.stages[0], recipe.source

    def shown() -> Any:
        for batch in source.batches(Epoch(batch_size=stage.batch_size)):
            yield StepInput(batch, Draws.seeded(0, total=batch.total), 0, 10)

    pretrainer = Pretrainer(stage)
    pretrainer.prepare(next(shown()), len(source))
    pretrainer.start()
    pretrainer.before_epoch(0, shown)
    for step in islice(shown(), 1):
        pretrainer(step).total.backward()
    return pretrainer


@pytest.mark.parametrize(("make", "own"), CASES)
def test_what_is_given_arrives(make: RecipeFunction, own: dict[str, Any]) -> None:
    stage = make(open_interactions(LOG), **SMALL, **own).stages[0]
    objective = stage.tasks[0].objective
    assert {name: getattr(objective, name) for name in own if hasattr(objective, name)} == {
        name: value for name, value in own.items() if name != "prototypes"
    }
    assert (objective.l2, stage.encoder.dim, stage.encoder.depth, stage.batch_size) == (0.003, 8, 2, 256)
    assert float(stage.encoder.embedding.detach().std()) == pytest.approx(0.2, rel=0.1)
    assert isinstance(stage.encoder, NoisyGraphConvolution) == (make in (simgcl, xsimgcl))
    assert stage.early_stopping is not None


@pytest.mark.parametrize(("make", "own"), CASES)
def test_a_step_moves_every_parameter(make: RecipeFunction, own: dict[str, Any]) -> None:
    torch.manual_seed(0)
    pretrainer = first_step(make(open_interactions(LOG), **SMALL, **own))
    assert all(loss.isfinite() for loss in pretrainer.losses.values())
    for name, parameter in pretrainer.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


@pytest.mark.parametrize("corruption", ["noise", "edge", "node", "walk"])
def test_any_objective_stands_between_two_views_of_the_nodes(corruption: str) -> None:
    torch.manual_seed(0)
    recipe = contrast(open_interactions(LOG), **SMALL, corruption=corruption, objective=partial(VICReg, width=16), weight=0.5)
    pretrainer = first_step(recipe)
    assert {name.partition("/")[0] for name in pretrainer.losses} == {"BPR", "BothSides"}
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in pretrainer.parameters())


def test_the_weight_is_that_of_the_objective_between_views() -> None:
    found = []
    for weight in (1.0, 0.25):
        torch.manual_seed(0)
        made = partial(SimCLR, hidden=16, width=8)
        found.append(first_step(contrast(open_interactions(LOG), **SMALL, objective=made, weight=weight)).losses)
    torch.testing.assert_close(0.25 * found[0]["BothSides/simclr"], found[1]["BothSides/simclr"])
    assert torch.equal(found[0]["BPR/bpr"], found[1]["BPR/bpr"])


def test_an_objective_that_needs_other_views_is_refused_before_data_is_read() -> None:
    with pytest.raises(UserError, match=r"needs .*which NodePair does not give"):
        contrast("there is no such file.csv", objective=MaskedReconstruction)


def test_xsimgcl_learns_to_rank(tmp_path: Path) -> None:
    """Untrained, the convolution alone ranks about two thirds as well as popularity."""
    log = generate(300, 200)
    source = open_interactions(log)
    options = {"layers": 2, "batch_size": 512, "lr": 0.02, "weight": 0.02, "noise": 0.1, "temperature": 0.2}
    torch.manual_seed(0)
    recipe = xsimgcl(source, dim=32, epochs=12, look_every=4, **options)
    before = recall(source, scorer_of(recipe.embedder.eval(), source.catalogue))
    anyview.pretrain(recipe, tmp_path / "run")
    after = recall(source, scorer_of(recipe.embedder.eval(), source.catalogue))
    assert after > before + 0.1
    assert after > recall(source, popularity(source.parts.train.matrix())) + 0.05


@pytest.mark.parametrize(("make", "options"), [(adagcl, {"batch_size": 128, "lr": 0.02}), (gformer, {"batch_size": 512, "lr": 0.01})])
def test_models_that_learn_their_graphs_learn_to_rank(make: RecipeFunction, options: dict[str, Any], tmp_path: Path) -> None:
    source = open_interactions(generate(150, 100))
    torch.manual_seed(0)
    assert_learns_to_rank(make(source, dim=16, epochs=10, look_every=5, **options), source, tmp_path, k=10)


def recall(source: InteractionSource, scorer: Scorer) -> float:
    return score_part(scorer, source, k=10, part="test")["recall"]
