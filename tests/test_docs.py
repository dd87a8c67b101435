"""The pages of the documentation that are written from the code."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.byol import BYOL
from anyview.objectives.objective import TAGS, Objective
from anyview.testing.grid import columns, objectives, place

DOCS = Path(__file__).resolve().parents[1] / "docs"


@functools.cache
def pages() -> ModuleType:
    """docs/pages.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("pages_of_the_documentation", DOCS / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", objectives())
def test_every_method_says_what_it_is_whose_it_is_and_where_it_collapses(name: str) -> None:
    objective = objectives()[name]
    assert objective.tags, f"{name} names no family"
    assert set(objective.tags) <= set(TAGS), f"{name} names a family that is not in TAGS"
    sentence, papers = pages().summary_and_papers(objective)
    assert re.match(r"[\w' -]+: .*\.$", sentence), sentence
    assert re.search(r"\b(19|20)\d\d\b", papers), f"the module of {name} names no paper with its year"
    assert re.fullmatch(r"none|-?[\d.]+(e[+-]?\d+)?", pages().collapse_line(objective))


def test_the_page_of_methods_holds_each_once_in_the_order_of_families() -> None:
    text = pages().methods_page(objectives(), [])
    assert sorted(re.findall(r"^### (.*)$", text, re.M)) == sorted(objectives())
    families = [heading.lower() for heading in re.findall(r"^## (.*)$", text, re.M)]
    assert families == [tag for tag in TAGS if tag in families]
    assert "[arXiv 2103.03230](https://arxiv.org/abs/2103.03230)" in text


@pytest.mark.parametrize(
    ("name", "objective", "lines"),
    [
        ("core/barlow_twins", BarlowTwins, ["- teacher: none", "- state: none", "- couples rows: yes", "- collapse line: 8192"]),
        (
            "core/byol",
            BYOL,
            ["- teacher: a moving average of the encoder", "- state: a moving average of `project`", "- collapse line: none"],
        ),
    ],
)
def test_an_entry_follows_from_the_class(name: str, objective: type[Objective], lines: list[str]) -> None:
    core = next(column for column in columns() if column.plugin == "core")
    text = pages().entry(name, objective, [place(name, objective, core)])
    for line in [*lines, "- needs: 2 views", "- runs in: `core/pair`", f".. autoclass:: {objective.__module__}.{objective.__name__}"]:
        assert line in text.splitlines(), text
