"""What trials draw: declared ranges, and those that a user adds, narrows and leaves out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anyview.errors import UserError
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.ranges import Choices, Integers, LogUniform, Uniform
from anyview.recipes.pair import pair
from anyview.tuning.space import Space, space_of


def pair_space(**ranges: Any) -> Space:
    values, _ = pair.resolve({})
    return space_of(pair, values, (), {**dict.fromkeys(pair.ranges), **ranges}, "core/pair")


def test_the_first_trial_is_the_recipe_s_own_and_others_follow_from_seed_and_number() -> None:
    space = pair_space(lr="1e-3..1", **{"objective.redundancy": "1e-3..1e-1"})
    settings = space.settings(0, 6)
    assert settings[0] == {"lr": 0.1, "objective.redundancy": 1 / 256}
    assert space.applied(settings[0]) == space.values
    assert space.settings(0, 3) == settings[:3]
    assert space.settings(1, 6)[1:] != settings[1:]
    alone = pair_space(lr="1e-3..1").settings(0, 6)
    assert [one["lr"] for one in alone] == [one["lr"] for one in settings]  # no other range moves it


def test_options_of_slots_and_components_are_put_in_their_places() -> None:
    space = pair_space(**{"objective.redundancy": "1e-3..1e-1"})
    filled = space.applied(space.settings(0, 2)[1])["objective"]
    assert filled.func is BarlowTwins
    assert filled.keywords == {"width": 256, "redundancy": space.settings(0, 2)[1]["objective.redundancy"]}
    assert space.values["objective"].keywords["redundancy"] == 1 / 256
    space = pair_space(objective="core/vicreg,core/simclr")
    settings = space.settings(0, 3)
    assert settings[0] == {"objective": "core/barlow_twins"}
    assert {space.applied(one)["objective"].__name__ for one in settings[1:]} == {"VICReg", "SimCLR"}


def test_choices_are_read_as_their_flags_are_and_none_is_tried_twice() -> None:
    space = pair_space(clip="null,0.5", layers="2,3")
    assert space.ranges == {"clip": Choices(None, 0.5), "layers": Choices(2, 3)}
    settings = space.settings(0, 100)
    assert len(settings) == 5  # the own values and four pairs
    assert len({json.dumps(one) for one in settings}) == 5


def test_ranges_are_declared_added_narrowed_and_left_out() -> None:
    values, _ = pair.resolve({})
    assert space_of(pair, values, {"lr"}, {}, "core/pair").ranges == {name: one for name, one in pair.ranges.items() if name != "lr"}
    assert "objective.redundancy" not in space_of(pair, values, {"objective"}, {}, "core/pair").ranges
    assert "objective.redundancy" not in space_of(pair, {**values, "objective": anyview_simclr()}, (), {}, "core/pair").ranges
    given = {"lr": "0.1..0.2", "noise": None, "hidden": Integers(8, 64), "objective.width": "64..256"}
    found = space_of(pair, values, (), given, "core/pair").ranges
    assert found["lr"] == LogUniform(0.1, 0.2)  # of the kind that was declared
    assert "noise" not in found
    assert found["objective.width"] == Integers(64, 256)


def anyview_simclr() -> Any:
    from anyview.objectives.simclr import SimCLR

    return SimCLR


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        ({"lrr": "1..2"}, "there is no parameter of core/pair to search 'lrr'; did you mean 'lr'"),
        ({"objective.redundanci": "1..2"}, "did you mean 'objective.redundancy'"),
        ({"lr": "2..1"}, "from a number to a larger one"),
        ({"data": "a,b"}, "trials on other data cannot be compared"),
        ({"objective": "core/vicreg,core/nothing"}, "there is no objective 'core/nothing'"),
        ({"layers": "two,three"}, "--layers takes int, and was given 'two'"),
        ({"objective": "core/vicreg,core/simclr", "objective.width": "8..16"}, "leave one of the two out"),
    ],
)
def test_ranges_that_cannot_be_are_refused(ranges: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        pair_space(**ranges)


def test_a_recipe_s_ranges_are_checked_when_it_is_declared() -> None:
    with pytest.raises(UserError, match=r"no parameter .in a range of pair. .lrate."):
        anyview_recipe(lrate=Uniform(0, 1))
    with pytest.raises(UserError, match=r"did you mean 'objective.redundancy'"):
        anyview_recipe(**{"objective.redundance": Uniform(0, 1)})
    with pytest.raises(UserError, match="no parameter"):
        anyview_recipe(**{"objective.dim": Integers(1, 2)})


def anyview_recipe(**ranges: Any) -> Any:
    from anyview.recipe import recipe

    return recipe(ranges=ranges)(pair.function)


def test_every_declared_range_is_of_values_that_its_flag_takes() -> None:
    from anyview.config import Parser
    from anyview.errors import MissingDependencyError
    from anyview.plugins import host

    for component in host().components("recipes"):
        try:
            function = component.load()
        except MissingDependencyError:
            continue
        parser = Parser(function.function, prog=component.full_name)
        for name, one in function.ranges.items():
            for end in one.ends:
                parser.parse([f"--{name.replace('_', '-')}={end}"])


def test_no_recipe_has_a_parameter_that_is_an_option_of_the_command() -> None:
    import inspect

    from anyview.cli import tune as command
    from anyview.errors import MissingDependencyError
    from anyview.plugins import host

    taken = set(inspect.signature(command.options).parameters)
    for component in host().components("recipes"):
        try:
            assert not taken & set(component.load().signature.parameters), component.full_name
        except MissingDependencyError:
            continue
