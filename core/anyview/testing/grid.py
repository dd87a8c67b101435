"""Which objective runs on which plugin's data: every pair is tried, or refused in one sentence that follows from what both declare.

A plugin's column is its recipes that have a slot for an objective. A recipe's preset "grid", if it has one, names its smallest data and
sizes. `python -m anyview.testing.grid [FOLDER ...]` tries every cell and prints the table; a FOLDER holds a plugin that is not installed.
"""

from __future__ import annotations

import functools
import inspect
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import torch

from anyview.data.source import Epoch, Source
from anyview.errors import MissingDependencyError, UserError
from anyview.objectives.objective import MismatchError, Objective, ObjectiveSlot
from anyview.plugins import GROUP, Component, Host, host
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Recipe, RecipeFunction, Stage
from anyview.testing.tiny import tiny_draws, tiny_pretrainer

PRESET = "grid"
STEPS = 2
DEVICE = torch.device("cpu")
LARGE, SMALL = 256, 96
"""Sizes of an objective (widths, prototypes, queues) above LARGE are set to SMALL, which most numbers of heads divide."""


@dataclass(frozen=True)
class SlotRecipe:
    """A recipe that takes any objective: its function, and the parameter that is the slot."""

    name: str
    function: RecipeFunction
    slot: str

    def build(self, objective: ObjectiveSlot) -> Recipe:
        """The recipe on its smallest data, with the objective in its slot; raises MismatchError when it cannot serve it."""
        torch.manual_seed(0)
        preset = PRESET if PRESET in self.function.presets else None
        return self.function(preset=preset, **{self.slot: objective}, **self._data)

    @functools.cached_property
    def _data(self) -> dict[str, Source]:
        """The data of the recipe's own objective, opened once."""
        preset = PRESET if PRESET in self.function.presets else None
        return {"data": self.function(preset=preset).source}


@dataclass(frozen=True)
class Column:
    """A plugin, and its recipes that take any objective."""

    plugin: str
    recipes: tuple[SlotRecipe, ...]


@dataclass(frozen=True)
class Cell:
    """An objective in a column: the recipe that serves it, or else why none does."""

    objective: str
    plugin: str
    recipe: SlotRecipe | None = None
    built: Recipe | None = None
    reason: str = ""


def columns(plugins: Host | None = None) -> list[Column]:
    """The columns of a host's plugins, by default of all that are installed and whose dependencies are there."""
    found: dict[str, list[SlotRecipe]] = {}
    for component in (plugins or host()).components("recipes"):
        function = _loaded(component)
        slots = [name for name, kind in function.slots.items() if kind == "objectives"] if function is not None else []
        if function is not None and slots:
            found.setdefault(component.plugin, []).append(SlotRecipe(component.name, function, slots[0]))
    return [Column(plugin, tuple(recipes)) for plugin, recipes in found.items()]


def objectives(plugins: Host | None = None) -> dict[str, type[Objective]]:
    """Every objective of a host's plugins whose dependencies are there, by full name."""
    loaded = {component.full_name: _loaded(component) for component in (plugins or host()).components("objectives")}
    return {name: objective for name, objective in loaded.items() if objective is not None}


def uninstalled(folder: Path) -> Host:
    """The plugin in a folder with a pyproject.toml and its modules below src; raises UserError where there is none, or a broken one."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        entries = [EntryPoint(name, value, GROUP) for name, value in project["entry-points"][GROUP].items()]
    except (OSError, KeyError) as error:
        raise UserError(f"{str(folder)!r} holds no plugin: its pyproject.toml has no entry point in the group {GROUP!r}") from error
    if str(folder / "src") not in sys.path:
        sys.path.insert(0, str(folder / "src"))
    found = Host(entries)
    for report in found.reports:
        if report.status != "ok":
            raise UserError(f"the plugin {report.name!r} in {str(folder)!r} is broken: {report.problem}")
    return found


def place(name: str, objective: type[Objective], column: Column) -> Cell:
    """The cell of an objective in a column: built by the first recipe that serves it, or refused with the nearest one's reason."""
    refusals: list[MismatchError] = []
    for recipe in column.recipes:
        try:
            return Cell(name, column.plugin, recipe, recipe.build(functools.partial(objective, **small_sizes(objective))))
        except MismatchError as refusal:
            refusals.append(refusal)
    nearest = min(refusals, key=lambda refusal: len(refusal.lacks))
    return Cell(name, column.plugin, reason=str(nearest).partition(";")[0])


def small_sizes(objective: type[Objective]) -> dict[str, Any]:
    """Options that make an objective quick: its default sizes above LARGE become SMALL."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(objective).parameters.items()}
    sizes = {name: _smaller(default) for name, default in defaults.items()}
    return {name: size for name, size in sizes.items() if size != defaults[name]}


def run(cell: Cell) -> dict[str, float]:
    """The losses of the last of a few steps of a cell that a recipe serves; AssertionError where training would go wrong."""
    assert cell.built is not None, f"{cell.objective} has no recipe on {cell.plugin}: {cell.reason}"
    losses: dict[str, float] = {}
    for stage in cell.built.stages:
        losses = _train(stage, stage.source or cell.built.source)
    return losses


def table(cells: Iterable[Cell]) -> str:
    """Cells as Markdown: a row per objective, a column per plugin, the serving recipe or a number in each, and the reasons below."""
    rows: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.objective, {})[cell.plugin] = cell
    plugins = list(dict.fromkeys(plugin for row in rows.values() for plugin in row))
    reasons: dict[str, int] = {}
    lines = [f"| objective | {' | '.join(plugins)} |", f"|---|{'---|' * len(plugins)}"]
    for name, row in rows.items():
        told = [_told(row[plugin], reasons) for plugin in plugins]
        lines.append(f"| `{name}` | {' | '.join(told)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in reasons.items())]) + "\n"


def all_cells(folders: Sequence[Path] = ()) -> Iterator[Cell]:
    """Every objective with every plugin, those that are installed and those in folders."""
    hosts: list[Host | None] = [None, *map(uninstalled, folders)]
    every = [column for one in hosts for column in columns(one)]
    for name, objective in chain.from_iterable(objectives(one).items() for one in hosts):
        for column in every:
            yield place(name, objective, column)


def main(folders: Sequence[str]) -> int:
    """Try every cell and print the table."""
    cells = []
    for cell in all_cells([Path(folder) for folder in folders]):
        if cell.built is not None:
            print(f"{cell.objective} on {cell.plugin}: {_brief(run(cell))}", file=sys.stderr)
        cells.append(cell)
    print(table(cells), end="")
    return 0


def first_step(cell: Cell) -> Pretrainer:
    """The first stage of a cell that a recipe serves as it is before its first step, with what follows from the data."""
    assert cell.built is not None, f"{cell.objective} has no recipe on {cell.plugin}: {cell.reason}"
    stage = cell.built.stages[0]
    source = stage.source or cell.built.source
    return tiny_pretrainer(stage, next(_shown(stage, source, 0)), len(source))


def _shown(stage: Stage, source: Source, epoch: int) -> Iterator[StepInput]:
    for number, batch in enumerate(source.batches(Epoch(epoch, batch_size=stage.batch_size))):
        yield StepInput(batch.to(DEVICE), tiny_draws(number, batch.total), 0, STEPS)


def _train(stage: Stage, source: Source) -> dict[str, float]:
    shown = functools.partial(_shown, stage, source)
    pretrainer = tiny_pretrainer(stage, next(shown(0)), len(source))
    optimizer = stage.make_optimizer([p for p in pretrainer.parameters() if p.requires_grad])
    before = [parameter.clone() for parameter in stage.encoder.parameters()]
    pretrainer.before_epoch(0, lambda: shown(0))
    losses: dict[str, float] = {}
    for number, one in enumerate(islice(chain.from_iterable(map(shown, count())), STEPS)):
        one.number = number
        losses = _step(pretrainer, stage, optimizer, one)
    assert any(not torch.equal(*pair) for pair in zip(before, stage.encoder.parameters(), strict=True)), "no weight of the encoder moved"
    return losses


def _step(pretrainer: Pretrainer, stage: Stage, optimizer: torch.optim.Optimizer, shown: StepInput) -> dict[str, float]:
    losses = pretrainer(shown)
    shared = [parameter for parameter in stage.encoder.parameters() if parameter.requires_grad]
    stage.combiner.backward(pretrainer.by_task(losses), shared, torch.Tensor.backward, shown.draws.generator)
    for name, loss in losses.items():
        assert loss.isfinite(), f"the loss {name!r} is {loss.item()}"
    for name, parameter in pretrainer.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), f"the gradient of {name} has NaN or infinite numbers"
    optimizer.step()
    optimizer.zero_grad()
    pretrainer.after_step(shown.number + 1, STEPS)
    return {name: float(loss.detach()) for name, loss in losses.items()}


def _loaded(component: Component) -> Any:
    try:
        return component.load()
    except MissingDependencyError:
        return None


def _smaller(default: Any) -> Any:
    if isinstance(default, (tuple, list)):
        return type(default)(_smaller(item) for item in default)
    return SMALL if type(default) is int and default > LARGE else default


def _told(cell: Cell, reasons: dict[str, int]) -> str:
    """A cell of the table; a reason that is told for the first time gets the next number."""
    if cell.recipe is not None:
        return cell.recipe.name
    reason = f"needs {cell.reason.partition(' needs ')[2]}"
    return f"no ({reasons.setdefault(reason, len(reasons) + 1)})"


def _brief(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
