"""Small runs that tests of the training loop share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from anyview.data.arrays import ArraySource
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.folder import RunFolder
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.recipe import Recipe, Stage, Task
from anyview.training import pretrain
from anyview.views.noise import NoisePair

SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def rows(count: int = 96, features: int = 12) -> ArraySource:
    return ArraySource(torch.randn(count, features, generator=torch.Generator().manual_seed(3)), name="noise")


def recipe(*objectives: Objective, epochs: int = 3, source: ArraySource | None = None, **stage: object) -> Recipe:
    """Objectives on noisy pairs of rows, over one small MLP."""
    source = source or rows()
    encoder = MLP(source.shape["features"], hidden=16, dim=8, layers=2)
    views = NoisePair(0.3)
    tasks = [Task(views, objective, name=f"task{number}" if len(objectives) > 1 else "") for number, objective in enumerate(objectives)]
    options = {"batch_size": 32, "optimizer": SGD, **stage}
    return Recipe(source=source, stages=[Stage(tasks=tasks, encoder=encoder, epochs=epochs, **options)], embedder=encoder)  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "encoder.safetensors")


def assert_same_bits(first: Path, second: Path) -> None:
    assert (first / "encoder.safetensors").read_bytes() == (second / "encoder.safetensors").read_bytes()


class NaNAfter(Objective):
    """A loss that is NaN from a step on."""

    needs = Needs(views=2)

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def forward(self, step: Step) -> Losses:
        loss = step.encode(step.views[0]).rows.square().mean()
        return Losses(broken=loss * (float("nan") if step.number >= self.step else 1.0))


def assert_ends_alike_after_a_stop(made: Callable[[], Recipe], folder: Path, step: int) -> None:
    """A run that was stopped after a step and resumed has the bits of one that was not; made: builds the recipe, from seed 0."""

    def again() -> Recipe:
        torch.manual_seed(0)
        return made()

    pretrain(again(), folder / "whole")
    stop_at(again(), folder / "parted", step)
    pretrain(again(), folder / "parted", resume=True)
    assert_same_bits(folder / "whole", folder / "parted")


def stop_at(recipe: Recipe, folder: Path, step: int) -> None:
    """Train with a checkpoint at every step, and end after `step` as a stop signal would."""
    original = RunFolder.save_checkpoint

    def save(self: RunFolder, state: dict[str, object], number: int) -> None:
        original(self, state, number)
        if number == step:
            raise UserError("stopped here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", save)
        with pytest.raises(UserError, match="stopped here"):
            pretrain(recipe, folder, checkpoint_every=1)
