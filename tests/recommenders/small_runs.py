"""Small trainings that tests of recommenders share."""

from __future__ import annotations

from pathlib import Path

import anyview
from anyview.encoders.encoder import Encoder
from anyview.recipe import Recipe
from anyview_recommenders.evaluations import score_part, scorer_of
from anyview_recommenders.source import InteractionSource


def assert_learns_to_rank(made: Recipe, source: InteractionSource, folder: Path, *, k: int = 20) -> None:
    """Training adds more than 0.1 to the recall of the test part by lists of k."""

    def recall() -> float:
        return score_part(scorer_of(made.embedder.eval(), source.catalogue), source, k=k, part="test")["recall"]

    untrained = recall()
    anyview.pretrain(made, folder / "run")
    assert recall() > untrained + 0.1


def assert_maps_have_a_rate_of_their_own(encoder: Encoder, rate: float, *others: str) -> None:
    """Every parameter but those of `others` learns at `rate` times the stage's rate."""
    (group,) = encoder.parameter_groups()
    assert group.schedule(3, 10) == rate
    ours = {id(parameter) for parameter in group.parameters}
    apart = {name for name, parameter in encoder.named_parameters() if id(parameter) not in ours}
    assert apart == set(others)
