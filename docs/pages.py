"""Pages that are written from the code when the documentation is built: the methods, and the grid of objectives and plugins."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from inspect import isfunction
from pathlib import Path

import torch
from torch import nn

from anyview.cli.list import first_sentence, stated_needs
from anyview.encoders.moving_average import MovingAverage
from anyview.objectives.objective import TAGS, Objective
from anyview.testing.grid import Cell, all_cells, first_step, objectives, table

FOLDER = Path(__file__).parent
TEMPLATE = FOLDER.parent / "examples" / "plugin_template"
WIDTH, ROWS = 512, 256

METHODS = """# Methods

Every objective that is installed, by family; a method of several families stands in the first. All of them share one contract: an objective
sees rows or tokens and never a modality, so [one table](results/grid.md) says which runs where. *State* is what changes between steps
beside the weights, and is saved with them. *Couples rows*: whether the loss is a function of several rows together. *Collapse line*: the
loss when all rows are equal, for an encoder of width {width} and {rows} rows at the defaults; where there is none, the loss cannot tell a
collapse from success.
"""
GRID = """# Objectives and plugins

Which objective runs on which plugin's data: a cell names the recipe whose slot it fills, or the reason below why none can. The reasons
follow from what objectives need, what views give and what encoders return. The tests (`tests/contract/test_grid.py`) train every cell for
a few steps, and

```
python -m anyview.testing.grid examples/plugin_template
```

does so and prints this table, with a plugin of your own as well when its folder is named.

"""


def write() -> None:
    """Write both pages into the folder of the documentation."""
    cells = list(all_cells([TEMPLATE]))
    (FOLDER / "methods.md").write_text(methods_page(objectives(), cells))
    (FOLDER / "results" / "grid.md").write_text(GRID + table(cells))


def methods_page(known: dict[str, type[Objective]], cells: Iterable[Cell]) -> str:
    """Families in the order of TAGS, and an entry for each objective under its first."""
    served: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.built is not None:
            served.setdefault(cell.objective, []).append(cell)
    parts = [METHODS.format(width=WIDTH, rows=ROWS)]
    for tag in TAGS:
        family = {name: objective for name, objective in known.items() if objective.tags[0] == tag}
        if family:
            parts.append(f"## {tag[0].upper()}{tag[1:]}\n")
            parts += [entry(name, objective, served.get(name, [])) for name, objective in family.items()]
    return "\n".join(parts)


def entry(name: str, objective: type[Objective], served: list[Cell]) -> str:
    """One objective: what it does, its paper, what it needs and keeps, and where it runs."""
    summary, papers = summary_and_papers(objective)
    needs = objective.needs
    facts = {
        "needs": stated_needs(replace(needs, teacher=False)) or "1 view",
        "teacher": "a moving average of the encoder" if needs.teacher else "none",
        "state": ", ".join(state(served[0])) if served else "",
        "couples rows": "yes" if needs.couples_rows else "no",
        "collapse line": collapse_line(objective),
        "also": ", ".join(objective.tags[1:]),
        "runs in": ", ".join(f"`{cell.plugin}/{cell.recipe.name}`" for cell in served if cell.recipe is not None),
    }
    lines = [f"- {fact}: {text}" for fact, text in facts.items() if text]
    return "\n\n".join([f"### {name}", summary, papers, "\n".join(lines), reference(objective)]) + "\n"


def reference(objective: type[Objective]) -> str:
    """The objective's own documentation, and that of the functions beside it in its module."""
    module = sys.modules[objective.__module__]
    functions = [name for name, thing in vars(module).items() if isfunction(thing) and thing.__module__ == module.__name__]
    public = [name for name in functions if not name.startswith("_")]
    directives = [f".. autofunction:: {module.__name__}.{name}" for name in public]
    directives.insert(0, f".. autoclass:: {module.__name__}.{objective.__name__}")
    return "\n".join(["```{eval-rst}", *directives, "```"])


def summary_and_papers(objective: type[Objective]) -> tuple[str, str]:
    """The first sentence of an objective's module, and the paragraph after it, with arXiv numbers as links."""
    paragraphs = (sys.modules[objective.__module__].__doc__ or "").strip().split("\n\n")
    papers = " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""
    return first_sentence(paragraphs[0]), re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", papers)


def collapse_line(objective: type[Objective]) -> str:
    """The collapse line of an objective at its defaults, without giving its weights any memory."""
    with torch.device("meta"):
        module = objective(WIDTH)
    line = module.collapse_line(ROWS)
    return "none" if line is None else f"{line:.4g}"


def state(cell: Cell) -> list[str]:
    """What a served objective keeps between steps: moving averages, and buffers that no batch norm owns."""
    module = first_step(cell).tasks[0].objective
    averages = {name for name, part in module.named_modules() if isinstance(part, MovingAverage)}
    normed = {name for name, part in module.named_modules() if isinstance(part, nn.modules.batchnorm._NormBase)}
    inside = averages | normed
    buffers = [name for name, _ in module.named_buffers() if not any(name.startswith(f"{owner}.") for owner in inside)]
    kept = [f"a moving average of `{name.removeprefix('teacher_')}`" for name in sorted(averages)]
    return kept + list(dict.fromkeys(f"`{name.partition('.')[0]}`" for name in buffers)) or ["none"]
