"""Every objective on every plugin's data, the template's too: it runs, or is refused in a sentence that both sides' declarations give."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from anyview.data.arrays import ArraySource
from anyview.data.source import Batch, Epoch
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import Losses, Needs, Objective, ObjectiveSlot, Step
from anyview.recipe import Recipe, Stage, Task, recipe
from anyview.testing import grid
from anyview.testing.grid import Cell, Column, SlotRecipe, columns, objectives, place, run, small_sizes, table, uninstalled
from anyview.testing.tiny import sgd, tiny_batch
from anyview.views.noise import NoisePair

TEMPLATE = Path(__file__).resolve().parents[2] / "examples" / "plugin_template"
COLUMNS = [*columns(), *columns(uninstalled(TEMPLATE))]
OBJECTIVES = objectives()


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.plugin)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_cell(name: str, column: Column) -> None:
    cell = place(name, OBJECTIVES[name], column)
    if cell.built is not None:
        losses = run(cell)
        assert losses
    else:
        assert re.fullmatch(r"[\w ]+ needs .+, which \w+( with \w+)? does not give", cell.reason), cell.reason


def test_the_columns_are_the_recipes_with_a_slot() -> None:
    by_plugin = {column.plugin: [recipe.name for recipe in column.recipes] for column in COLUMNS}
    assert by_plugin["core"][0] == "pair"
    assert by_plugin["template"] == ["dropout_pair"]
    assert {"core/barlow_twins", "core/vicreg", "core/byol"} <= set(OBJECTIVES)


class Needy(Objective):
    """Needs what no pair gives."""

    needs = Needs(views=2, masks=True)


class Diverges(Objective):
    """A loss that is not finite."""

    needs = Needs(views=2)
    factor = float("inf")

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, step: Step) -> Losses:
        return Losses(broken=self.factor * step.encode(step.views[0]).rows.square().mean())


class Idle(Diverges):
    """A loss that teaches the encoder nothing."""

    factor = 0.0


@recipe(views=NoisePair)
def tiny(data: ArraySource | None = None, *, size: int = 8, objective: ObjectiveSlot = functools.partial(BarlowTwins, width=8)) -> Recipe:  # noqa: B008
    """A recipe without a preset for the grid."""
    source = data or ArraySource(tiny_batch().data, name="tiny")
    encoder = MLP(12, hidden=8, dim=size, layers=2)
    return Recipe(source, [Stage([Task(NoisePair(0.1), objective(size))], encoder, epochs=1, optimizer=sgd)], encoder)


TINY = Column("tiny", (SlotRecipe("tiny", tiny, "objective"),))


def test_a_cell_that_would_go_wrong_in_training_fails() -> None:
    with pytest.raises(AssertionError, match="'broken' is inf"):
        run(place("x/diverges", Diverges, TINY))
    with pytest.raises(AssertionError, match="no weight of the encoder moved"):
        run(place("x/idle", Idle, TINY))


def test_a_refusal_names_both_sides() -> None:
    cell = place("x/needy", Needy, TINY)
    assert cell.built is None
    assert cell.reason == "Needy needs masked views, which NoisePair does not give"
    with pytest.raises(AssertionError, match="x/needy has no recipe on tiny: Needy needs masked views"):
        run(cell)


def test_the_data_is_opened_once_and_weights_are_the_same_each_time() -> None:
    recipe = TINY.recipes[0]
    first, again = (recipe.build(functools.partial(BarlowTwins, width=8)) for _ in range(2))
    assert first.source is again.source
    assert torch.equal(first.embedder.last.weight, again.embedder.last.weight)  # type: ignore[union-attr,arg-type]


def test_large_sizes_become_small() -> None:
    class Sized(Objective):
        def __init__(self, dim: int, *, width: int = 8192, heads: int = 12, banks: tuple[int, ...] = (3000, 64), on: bool = True) -> None:
            super().__init__()

    assert small_sizes(Sized) == {"width": grid.SMALL, "banks": (grid.SMALL, 64)}
    assert all(grid.SMALL % heads == 0 for heads in (1, 2, 3, 4, 6, 8, 12, 16))


def test_the_table_numbers_each_reason_once() -> None:
    served, refused = place("x/twins", BarlowTwins, TINY), place("x/needy", Needy, TINY)
    other = Cell("x/needy", "second", reason="Needy needs tokens, which Pair does not give")
    third = Cell("x/twins", "second", reason="BarlowTwins needs tokens, which Pair does not give")
    assert table([served, third, refused, other]).splitlines() == [
        "| objective | tiny | second |",
        "|---|---|---|",
        "| `x/twins` | tiny | no (1) |",
        "| `x/needy` | no (2) | no (1) |",
        "",
        "1. needs tokens, which Pair does not give",
        "2. needs masked views, which NoisePair does not give",
    ]


def test_the_command_tries_every_cell_and_prints_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(grid, "columns", lambda plugins=None: [TINY] if plugins is None else [])
    monkeypatch.setattr(grid, "objectives", lambda plugins=None: {"x/needy": Needy, "x/twins": BarlowTwins} if plugins is None else {})
    assert grid.main([str(TEMPLATE)]) == 0
    printed = capsys.readouterr()
    assert "| `x/twins` | tiny |" in printed.out
    assert "| `x/needy` | no (1) |" in printed.out
    assert "x/twins on tiny: barlow_twins " in printed.err


def test_a_folder_without_a_plugin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no plugin"):
        uninstalled(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project.entry-points.anyview]\nodd = 'surely_not_there.plugin'\n")
    with pytest.raises(UserError, match=r"the plugin 'odd' in .* is broken"):
        uninstalled(tmp_path)


class Stored(Batch):
    """Holds whole numbers until it is moved to a device, as batches of images do."""

    def to(self, device: torch.device | str, **options: Any) -> Batch:
        moved = super().to(device, **options)
        return replace(moved, data=moved.data.float())


class StoredRows(ArraySource):
    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        for batch in super().batches(epoch):
            yield Stored((100 * batch.data).to(torch.int32), batch.rows, batch.start, batch.total, batch.index)


def test_batches_are_moved_to_the_device_as_in_training() -> None:
    @recipe()
    def stored(data: str = "rows", *, objective: ObjectiveSlot = BarlowTwins) -> Recipe:
        encoder = MLP(12, hidden=4, dim=4, layers=2)
        stage = Stage([Task(NoisePair(), objective(4))], encoder, epochs=1, optimizer=sgd)
        return Recipe(StoredRows(tiny_batch(48).data, name=data), [stage], encoder)

    served = Column("stored", (SlotRecipe("stored", stored, "objective"),))
    assert run(place("core/barlow_twins", BarlowTwins, served))
