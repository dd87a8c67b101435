"""Whether a recipe would train on an accelerator, asked without one, and where its steps would make the host wait.

Each recipe is trained for two steps on a device that counts as another and computes on the CPU; see `anyview.testing.standin`.

`python -m anyview.testing.accelerator [--own] [PLUGIN ...]` tries every recipe of the plugins with its own objective and, without --own,
with every other that its slot takes, and prints a line for each: recipe, objective, verdict. The device is the process's from then on, so
tests run it in a process of its own.
"""

from __future__ import annotations

import argparse
import functools
import sys
import traceback
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor

from anyview.data.source import Batch, Epoch, Source
from anyview.errors import MissingDependencyError, UserError
from anyview.objectives.objective import MismatchError
from anyview.plugins import host
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import RecipeFunction, Stage
from anyview.testing import grid, standin
from anyview.testing.standin import DEVICE, TORCH, Watch, standin_device
from anyview.views.draws import Draws

OWN = "its own"
GRAVITY = ("ok", "waits", "refused:", "fails")
"""What verdicts begin with, the gravest last."""
Cell = tuple[str, str, str]
"""Recipe, objective, verdict."""


def check_device(stage: Stage, source: Source) -> list[str]:
    """Raise what training a stage would raise on an accelerator; else the places, "file:line", where the host would wait in a step.

    `prepare`, `before_epoch`, views, forward, backward, optimiser and `after_step` are run on two batches of the source. The first two and
    the optimiser, which is torch's, may wait. The stage is on the device afterwards, and of no further use.
    """
    pretrainer = Pretrainer(stage)
    batches = list(islice(source.batches(Epoch(batch_size=stage.batch_size, model=pretrainer)), grid.STEPS))
    with standin_device() as watch:
        shown = [_shown(number, batch) for number, batch in enumerate(batches)]
        pretrainer.to(DEVICE).prepare(shown[0], len(source))
        _check_there(pretrainer)
        pretrainer.start()
        optimizer = stage.make_optimizer([parameter for parameter in pretrainer.parameters() if parameter.requires_grad])
        pretrainer.before_epoch(0, lambda: shown)
        for one in shown:
            _step(stage, pretrainer, optimizer, one, watch)
    return watch.waits


def _shown(number: int, batch: Batch) -> StepInput:
    draws = Draws.seeded(number, total=batch.total, start=batch.start, rows=batch.rows, device=DEVICE)
    return StepInput(batch.to(DEVICE), draws, number, grid.STEPS)


def _check_there(pretrainer: Pretrainer) -> None:
    for name, value in (*pretrainer.named_parameters(), *pretrainer.named_buffers()):
        if value.device.type != DEVICE:
            raise RuntimeError(f"{name} was made on {value.device.type} in prepare, and belongs on the objective's device")


def _step(stage: Stage, pretrainer: Pretrainer, optimizer: torch.optim.Optimizer, shown: StepInput, watch: Watch) -> None:
    shared = [parameter for parameter in stage.encoder.parameters() if parameter.requires_grad]
    with watch.noting():
        losses = pretrainer(shown)
        stage.combiner.backward(pretrainer.by_task(losses), shared, Tensor.backward, shown.draws.generator)
    optimizer.step()  # torch's own; its count of steps lies on the host
    optimizer.zero_grad()
    with watch.noting():
        pretrainer.after_step(shown.number + 1, grid.STEPS)


def own_cells(plugins: Sequence[str] = ()) -> Iterator[Cell]:
    """Every recipe of the plugins, or of all, with what it comes with; a preset "grid" makes it small."""
    for component in host().components("recipes"):
        if component.plugin in plugins or not plugins:
            try:
                function: RecipeFunction = component.load()
            except MissingDependencyError as missing:
                yield component.full_name, OWN, f"refused: {missing}"
                continue
            built = function(preset=grid.PRESET if grid.PRESET in function.presets else None)
            yield component.full_name, OWN, gravest([verdict_on(stage, built.source) for stage in built.stages])


def slot_cells(plugins: Sequence[str] = ()) -> Iterator[Cell]:
    """Every recipe with a slot, and every objective that goes together with it."""
    for column in grid.columns():
        for recipe in column.recipes if column.plugin in plugins or not plugins else ():
            for name, objective in grid.objectives().items():
                try:
                    built = recipe.build(functools.partial(objective, **grid.small_sizes(objective)))
                except MismatchError:
                    continue
                yield f"{column.plugin}/{recipe.name}", name, verdict_on(built.stages[0], built.source)


def verdict_on(stage: Stage, source: Source) -> str:
    """ "ok", "waits at PLACE, PLACE", "refused: ..." with a user's mistake, or "fails at PLACE: ..." with what `check_device` raised."""
    try:
        waits = check_device(stage, stage.source or source)
    except UserError as refusal:
        return f"refused: {refusal}"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = next(frame for frame in reversed(frames) if not frame.filename.startswith((TORCH, str(Path(standin.__file__)))))
        return f"fails at {Path(last.filename).name}:{last.lineno}: {type(error).__name__} {' '.join(str(error).split())}"
    return f"waits at {', '.join(waits)}" if waits else "ok"


def gravest(verdicts: Sequence[str]) -> str:
    """The first of the gravest of several stages' verdicts.

    >>> gravest(["ok", "waits at mix.py:34", "fails at mix.py:36: TypeError no"])
    'fails at mix.py:36: TypeError no'
    """
    return max(verdicts, key=lambda verdict: GRAVITY.index(verdict.split()[0]))


def main(words: Sequence[str]) -> int:
    """Print a line for each cell; 1 where one of them fails."""
    parser = argparse.ArgumentParser(prog="python -m anyview.testing.accelerator", description=__doc__.split("\n")[0])
    parser.add_argument("--own", action="store_true", help="each recipe with its own objective alone")
    parser.add_argument("plugins", nargs="*", help="whose recipes are tried; without one those of all")
    chosen = parser.parse_args(words)
    ill = 0
    for recipe, objective, verdict in chain(own_cells(chosen.plugins), () if chosen.own else slot_cells(chosen.plugins)):
        ill |= verdict.startswith("fails")
        print(f"{recipe}\t{objective}\t{verdict}", flush=True)
    return ill


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
