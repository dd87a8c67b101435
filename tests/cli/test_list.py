"""`anyview list`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anyview.cli import list as command
from anyview.errors import UserError
from anyview.objectives.objective import Needs
from tests.fake_plugins import FakePlugins, make_fake_plugins  # noqa: F401

COMPONENTS = '''
from anyview.objectives.objective import Needs, Objective
from anyview.views.maker import Gives, ViewMaker

class Pairs(ViewMaker):
    """Two views. Of anything."""
    gives = Gives(views=2)

class Single(ViewMaker):
    """One view."""

class Contrast(Objective):
    """Tells samples
    apart, as Chen et al. Do. More words."""
    needs = Needs(views=2, couples_rows=True)
    tags = ("contrastive", "simple")

class Rebuild(Objective):
    """Rebuilds what is hidden."""
    needs = Needs(masks=True, targets=True, roles=("clean",))
    tags = ("masking",)
'''


@pytest.fixture
def zoo(fake_plugins: FakePlugins) -> FakePlugins:
    """A plugin "zoo" with two view makers, two objectives, and a recipe whose dependency is missing."""
    fake_plugins.write("zoo_components", COMPONENTS)
    fake_plugins.write("zoo_needy", "import surely_absent\n")
    fake_plugins.write("zoo_sick", "raise ValueError('sick')\n")
    fake_plugins.add(
        "zoo",
        """
        @hookimpl
        def views():
            return {"pairs": "zoo_components:Pairs", "single": "zoo_components:Single"}
        @hookimpl
        def objectives():
            return {"contrast": "zoo_components:Contrast", "rebuild": "zoo_components:Rebuild"}
        @hookimpl
        def recipes():
            return {"needy": "zoo_needy:needy", "sick": "zoo_sick:sick"}
        """,
    )
    return fake_plugins


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert command.run([*arguments, "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def text(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert command.run(list(arguments)) == 0
    return capsys.readouterr().out


def test_every_kind_without_arguments(zoo: FakePlugins, capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys)
    assert {"zoo/pairs", "zoo/single", "zoo/contrast", "zoo/rebuild", "zoo/needy"} <= set(rows)
    assert rows["zoo/pairs"]["kind"] == "views"
    assert rows["zoo/pairs"]["summary"] == "Two views."


def test_objectives_show_tags_and_needs(zoo: FakePlugins, capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys, "objectives", "zoo/")
    assert set(rows) == {"zoo/contrast", "zoo/rebuild"}
    assert rows["zoo/contrast"]["tags"] == ["contrastive", "simple"]
    assert rows["zoo/contrast"]["needs"] == "2 views"
    assert rows["zoo/rebuild"]["needs"] == "roles clean, masks, targets"
    assert rows["zoo/contrast"]["fits"] is None


def test_one_line_per_component(zoo: FakePlugins, capsys: pytest.CaptureFixture[str]) -> None:
    lines = text(capsys, "recipe", "zoo").splitlines()
    assert lines[0].split() == ["recipes"]
    assert [line.split()[0] for line in lines[1:]] == ["zoo/needy", "zoo/sick"]
    assert "cannot be loaded: zoo/needy needs the package 'surely_absent', which is not installed; pip install 'anyview-zoo'" in lines[1]
    assert "cannot be loaded: ValueError: sick" in lines[2]


@pytest.mark.parametrize("word", ["objective", "objectives", "Objectives"])
def test_a_kind_may_be_singular(word: str) -> None:
    assert command.kind_of(word) == "objectives"


def test_unknown_kind() -> None:
    with pytest.raises(UserError, match=r"there is no kind 'recipies'; did you mean 'recipes'"):
        command.run(["recipies"])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("contr", {"zoo/contrast"}), ("zoo/*", {"zoo/contrast", "zoo/rebuild"}), ("re*", {"zoo/rebuild"}), ("ZOO/REB", {"zoo/rebuild"})],
)
def test_patterns(zoo: FakePlugins, capsys: pytest.CaptureFixture[str], pattern: str, names: set[str]) -> None:
    assert {name for name in listed(capsys, "objectives", pattern) if name.startswith("zoo/")} == names


def test_kind_and_pattern_may_be_written_as_flags(zoo: FakePlugins, capsys: pytest.CaptureFixture[str]) -> None:
    written = listed(capsys, "views", "zoo/")
    assert listed(capsys, "--pattern", "zoo/", "--kind", "view") == written
    assert listed(capsys, "--kind=views", "zoo/") == listed(capsys, "--pattern=zoo/", "views") == written


def test_a_pattern_that_fits_nothing_says_so(zoo: FakePlugins, capsys: pytest.CaptureFixture[str]) -> None:
    assert text(capsys, "views", "qqq") == "there are no views with a name like 'qqq'\n"
    assert listed(capsys, "views", "qqq") == {}


def test_tag(zoo: FakePlugins, capsys: pytest.CaptureFixture[str]) -> None:
    assert "zoo/rebuild" in listed(capsys, "--tag", "masking")
    assert "zoo/contrast" not in listed(capsys, "--tag", "masking")
    with pytest.raises(UserError, match=r"there is no tag 'maskin'; did you mean 'masking'"):
        command.run(["objectives", "--tag", "maskin"])


@pytest.mark.parametrize(
    "arguments",
    [["objectives", "contrast", "--for", "zoo"], ["--for", "zoo", "objectives", "contrast"], ["objectives", "--for=zoo", "contrast"]],
)
def test_for_holds_needs_against_what_the_plugin_gives(zoo: FakePlugins, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    fits = listed(capsys, *arguments)["zoo/contrast"]["fits"]
    assert fits == {"zoo/pairs": [], "zoo/single": ["2 views (there is 1)"]}


def test_for_says_yes_or_what_is_missing(zoo: FakePlugins, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {line.split()[0]: line for line in text(capsys, "--for", "zoo").splitlines() if line}
    assert lines["zoo/contrast"].rstrip().endswith("yes (zoo/pairs)")
    assert lines["zoo/rebuild"].rstrip().endswith("no: misses views of role 'clean', masked views, targets (zoo/pairs)")


def test_for_is_about_plugins_with_view_makers_and_about_objectives(zoo: FakePlugins) -> None:
    zoo.add("bare", "")
    zoo.declare("needy", "views", {"v": "zoo_needy:v"})
    with pytest.raises(UserError, match=r"there is no plugin 'zo'; did you mean 'zoo'"):
        command.run(["objectives", "--for", "zo"])
    with pytest.raises(UserError, match="the plugin 'bare' has no view makers"):
        command.run(["objectives", "--for", "bare"])
    with pytest.raises(UserError, match="needy/v needs the package 'surely_absent'"):
        command.run(["objectives", "--for", "needy"])
    with pytest.raises(UserError, match="the kind is 'recipes'"):
        command.run(["recipes", "--for", "zoo"])


def test_a_third_word_is_a_mistake() -> None:
    with pytest.raises(UserError, match="more"):
        command.run(["recipes", "a", "more"])


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("One.\n\nTwo.", "One."),
        ("Rebuild it\n    all (Hou et al., 2022, arXiv 2205.10803).", "Rebuild it all (Hou et al., 2022, arXiv 2205.10803)."),
        ("As Hou et al. Do. More.", "As Hou et al. Do."),
        ("Costs 1.5 times as much", "Costs 1.5 times as much"),
        ("", ""),
    ],
)
def test_first_sentence(docstring: str, sentence: str) -> None:
    assert command.first_sentence(docstring) == sentence


def test_stated_needs() -> None:
    assert command.stated_needs(Needs()) == ""
    assert command.stated_needs(Needs(views=3, teacher=True, groups=("subject", "slice"))) == "3 views, groups subject/slice, teacher"
