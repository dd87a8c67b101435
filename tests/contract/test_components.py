"""Every component that an installed plugin declares, through the checks that it promises to pass."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
import torch

from anyview.encoders.encoder import Encoder
from anyview.errors import MissingDependencyError
from anyview.objectives.objective import Objective
from anyview.plugins import KINDS, Component, host
from anyview.testing import check_encoder, check_objective, check_rank_exact, check_view_maker, tiny_batch
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View

SMALL = {"width": 16, "hidden": 16, "prototypes": 10, "dim": 8, "features": 12, "rate": 0.4, "shrinkage": 0.1, "queue_size": 32}
READS_OTHER_RANKS = {"core/mix"}


def each(kind: str) -> Any:
    return pytest.mark.parametrize("component", host().components(kind), ids=lambda component: component.full_name)


def load(component: Component) -> Any:
    try:
        return component.load()
    except MissingDependencyError as missing:
        pytest.skip(str(missing))


def small(make: Any) -> Any:
    """The component with the sizes of a test in place of its own, where it has such parameters."""
    return functools.partial(make, **{name: SMALL[name] for name in inspect.signature(make).parameters if name in SMALL and name != "dim"})


def small_objective(component: Component) -> Any:
    """An objective over plain pairs of rows, whoever declares it; for others the core knows no views of their plugin's modality."""
    make = load(component)
    if component.plugin != "core" and make.needs.missing(Gives(views=2)):
        pytest.skip("it needs its own modality's views; its plugin's tests run the check")
    return small(make)


@each("objectives")
def test_objective(component: Component) -> None:
    assert issubclass(load(component), Objective)
    check_objective(small_objective(component))


@each("objectives")
@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_objective_on_ranks(component: Component, ranks: int, rows: int) -> None:
    check_rank_exact(small_objective(component), ranks=ranks, rows=rows, steps=5)


@each("objectives")
def test_objective_is_called_with_a_width(component: Component) -> None:
    """A slot calls it with one number; everything else has a default, so that it can be named on the command line."""
    first, *others = inspect.signature(load(component)).parameters.values()
    assert first.name == "dim"
    assert first.default is inspect.Parameter.empty
    for parameter in others:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name
        assert parameter.default is not inspect.Parameter.empty, parameter.name
        assert parameter.annotation is not inspect.Parameter.empty, parameter.name


@each("encoders")
def test_encoder(component: Component) -> None:
    make = load(component)
    assert issubclass(make, Encoder)
    if component.plugin != "core":
        pytest.skip("it reads its own modality; its plugin's tests run the check")
    encoder = small(make)()
    check_encoder(encoder, View(torch.randn(16, 6, 12) if encoder.tokens else torch.randn(16, 12)))


@each("views")
def test_view_maker(component: Component) -> None:
    make = load(component)
    assert issubclass(make, ViewMaker)
    if component.plugin != "core":
        pytest.skip("it reads its own modality; its plugin's tests run the check")
    check_view_maker(small(make)(), tiny_batch(), sliced=component.full_name not in READS_OTHER_RANKS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_loads_and_says_what_it_is(kind: str) -> None:
    for component in host().components(kind):
        thing = load(component)
        assert callable(thing), component.full_name
        assert inspect.getdoc(thing), f"{component.full_name} has no docstring"


def test_core_is_there_whole() -> None:
    core = {
        kind: {c.name for c in host().components(kind) if c.plugin == "core"} for kind in ("objectives", "encoders", "views", "datasets")
    }
    assert {"barlow_twins", "vicreg", "byol"} <= core["objectives"]
    assert {"noise", "crop", "mix", "mask_tokens", "mask_rows", "mask_columns"} <= core["views"]
    assert "mlp" in core["encoders"]
    assert "digits" in core["datasets"]
