"""How a run is carried out: its options, whether they can be had, and the processes that train it."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from anyview.combiners.weighted_sum import WeightedSum
from anyview.data.source import Source
from anyview.encoders.encoder import Encoder
from anyview.errors import UserError
from anyview.evaluation.embedding import choose_device
from anyview.folder import RunFolder
from anyview.monitor import make_loggers
from anyview.recipe import Recipe, Stage
from anyview.stops import Stops

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its rank-by-rank greetings would fill a pipe

Watch = Callable[[int, Encoder], None]
"""(passes over the data that are done, the stage's encoder) -> None: follows a training from outside."""

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class Options:
    """How a run is carried out; what is learned is the recipe's.

    checkpoint_every: optimiser steps between checkpoints, None = about once a minute. log_every: steps between lines of metrics, None =
    about a hundred per stage. watch: see `pretrain`.
    """

    seed: int = 0
    devices: int = 1
    accelerator: str = "auto"
    precision: str = "32-true"
    checkpoint_every: int | None = None
    log_every: int | None = None
    loggers: tuple[str, ...] = ()
    quiet: bool = False
    watch: Watch | None = None


def check_options(recipe: Recipe, options: Options) -> None:
    """Raise UserError for what cannot be carried out, before anything is written."""
    if options.precision not in PRECISIONS:
        raise UserError(f"there is no precision {options.precision!r}; choose {', '.join(PRECISIONS)}")
    for name in ("devices", "checkpoint_every", "log_every"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} takes at least 1, and was given {value}")
    if not 0 <= options.seed < 2**63:
        raise UserError(f"--seed takes 0 to 2^63 - 1, and was given {options.seed}")
    processes = int(os.environ["WORLD_SIZE"]) if _under_torchrun() else options.devices
    for stage in recipe.stages:
        source = stage.source or recipe.source
        _check_sharing(stage, source, processes)
        _check_stage(stage, source, options.precision)


def _check_sharing(stage: Stage, source: Source, processes: int) -> None:
    if processes > 1 and not source.divisible:
        asked = f"--devices {processes} was asked for"
        raise UserError(f"{asked}, and the data set {source.name!r} is one piece that processes cannot share; use --devices 1")
    rows = min(stage.batch_size or len(source), len(source))
    if rows < processes:
        raise UserError(f"a batch of {rows} rows cannot be shared by {processes} processes; make the batch larger or use fewer devices")
    modules = [module for task in stage.tasks for module in task.objective.modules()] + list(stage.encoder.modules())
    coupled = any(task.objective.needs.couples_rows for task in stage.tasks) or any(isinstance(m, nn.BatchNorm1d) for m in modules)
    if rows < 2 and coupled:
        raise UserError(f"a batch of {rows} row was asked for, and this recipe compares or normalises over rows; give at least two")


def _check_stage(stage: Stage, source: Source, precision: str) -> None:
    if precision == "16-mixed" and not isinstance(stage.combiner, WeightedSum):
        name = type(stage.combiner).__name__
        raise UserError(f"{name} reads gradients that 16-mixed scales; choose the precision bf16-mixed or 32-true")
    if stage.steps(source) < 1:
        found = f"{stage.epochs} epochs of {source.steps(stage.batch_size)} batches with accumulate {stage.accumulate}"
        raise UserError(f"stage {stage.name!r} has no step: {found}; give more epochs or accumulate less")
    stage.make_optimizer([nn.Parameter(torch.zeros(1))])


def make_fabric(folder: RunFolder, options: Options) -> Fabric:
    """Fabric for one process, for those that torchrun started, or for new ones; raises UserError for devices that are not there."""
    strategy: Any = "auto"
    if _under_torchrun():
        strategy = DDPStrategy(broadcast_buffers=False)
    elif options.devices > 1:
        strategy = DDPStrategy(start_method="spawn", broadcast_buffers=False)  # state is the same on every rank already
    try:
        return Fabric(
            accelerator=choose_device().type if options.accelerator == "auto" else options.accelerator,
            devices=int(os.environ["LOCAL_WORLD_SIZE"]) if _under_torchrun() else options.devices,
            num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")) if _under_torchrun() else 1,
            strategy=strategy,
            precision=options.precision,  # type: ignore[arg-type]
            loggers=make_loggers(options.loggers, folder.path / "logs"),
        )
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        asked = f"--accelerator {options.accelerator} --devices {options.devices}"
        raise UserError(f"{asked} was asked for, and cannot be had ({' '.join(str(error).split())}); see `anyview doctor`") from error


class Job:
    """What a process trains; travels to new processes as bytes, so that none shares its weights' memory with another."""

    def __init__(self, recipe: Recipe, folder: RunFolder, options: Options, resume: bool) -> None:
        self.recipe, self.folder, self.options, self.resume = recipe, folder, options, resume

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, (pickle.dumps((self.recipe, self.folder, self.options, self.resume)),)


def _unpack(content: bytes) -> Job:
    return Job(*pickle.loads(content))


def launch(fabric: Fabric, train: Callable[[Fabric, Job], BaseException | None], job: Job) -> None:
    """Run `train` in this process, or in new ones, and raise what it hands back.

    Then the recipe's embedder is the trained one, wherever it was trained.
    """
    if job.options.devices > 1 and not _under_torchrun():
        with Stops(forward=True):
            problem: BaseException | None = fabric.launch(train, job)  # type: ignore[arg-type]
        if problem is None:
            job.recipe.embedder.load_state_dict(job.folder.load_encoder())
    else:
        if _under_torchrun():
            fabric.launch()
        problem = train(fabric, job)
    if problem is not None:
        raise problem


def keeps_folder() -> bool:
    """Whether this process keeps the run's folder: of several that torchrun started, rank 0 alone does."""
    return os.environ.get("RANK", "0") == "0"


def _under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ
