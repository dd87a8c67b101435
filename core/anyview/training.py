"""The training loop, whole, on Lightning Fabric.

Nothing random is carried from step to step: every step's numbers follow from (seed, stage, batch number), so a resumed run continues the
same streams, and W ranks draw what one would.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from anyview.data.source import Batch, Epoch
from anyview.distributed import any_rank
from anyview.errors import UserError
from anyview.evaluation.embedding import frozen
from anyview.folder import RunFolder
from anyview.launch import Job, Options, Watch, check_options, keeps_folder, launch, make_fabric
from anyview.learning_rates import LearningRates
from anyview.monitor import Monitor
from anyview.pretrainer import Pretrainer, StepInput
from anyview.progress import ProgressLine
from anyview.recipe import Recipe, Stage
from anyview.record import check_same, recipe_record
from anyview.run import Run, build
from anyview.stops import CheckpointClock, Stops
from anyview.views.draws import Draws, derive_seed


class TrainingStoppedError(UserError):
    """A loss left the finite numbers; the sentence names the term, the step and what was kept."""


class InterruptedRunError(KeyboardInterrupt):
    """The run was asked to stop, has finished its step and saved."""


def pretrain(
    recipe: Recipe | str,
    out: str | Path,
    *,
    seed: int = 0,
    devices: int = 1,
    accelerator: str = "auto",
    precision: str = "32-true",
    resume: bool = False,
    overwrite: bool = False,
    preset: str | None = None,
    checkpoint_every: int | None = None,
    log_every: int | None = None,
    loggers: Sequence[str] = (),
    quiet: bool = True,
    watch: Watch | None = None,
    **values: Any,
) -> Run:
    """Train a recipe and keep the run in the folder `out`.

    recipe: a recipe's name with `values` for its parameters, or a Recipe that a recipe function returned (then `seed` decides the data
    order and the views; the initial weights are the recipe's). resume: go on from the folder's last checkpoint. overwrite: replace the run
    in the folder. quiet: no progress line. watch: called in the first process before the first pass over the data and after each, with the
    number of passes that a stage has done and its encoder, in evaluation mode and without gradient, to follow a score along the way; where
    `devices` is more than one it must be a function of a module, which new processes can import.

    Raises UserError when the folder is taken, held by another process or cannot be written; TrainingStoppedError when a loss is not finite.
    """
    options = Options(seed, devices, accelerator, precision, checkpoint_every, log_every, tuple(loggers), quiet, watch)
    if isinstance(recipe, str):
        recipe = build(recipe, values, seed=seed, preset=preset)
    elif values or preset:
        raise UserError(
            f"a recipe that is built already takes no {', '.join([*values, *(['preset'] if preset else [])])}; pass it to its function"
        )
    check_options(recipe, options)
    folder = RunFolder(out)
    fabric, job = make_fabric(folder, options), Job(recipe, folder, options, resume)
    if not keeps_folder():
        launch(fabric, _train, job)
        return Run(folder, recipe)
    record = recipe_record(recipe, seed, precision)
    if resume:
        check_same(RunFolder.existing(out), record)
    else:
        folder.check_free(overwrite=overwrite)
    with folder.lock():
        if not resume:
            folder.clear()
            folder.save_kept(recipe.source.keeps())
            folder.write_recipe(record)
        launch(fabric, _train, job)
    return Run(folder, recipe)


def _train(fabric: Fabric, job: Job) -> UserError | InterruptedRunError | None:
    """All stages, in one process of possibly several; a user's error is handed back, so that it crosses process borders whole."""
    if fabric.world_size > 1 and fabric.device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // fabric.world_size))
    if not fabric.is_global_zero:
        fabric.loggers.clear()
    try:
        with torch.random.fork_rng(), Stops() as stops:
            _Training(fabric, job.recipe, job.folder, job.options, stops).run(job.resume)
    except (UserError, InterruptedRunError) as problem:
        return problem
    finally:
        for logger in fabric.loggers:
            logger.finalize("success")
    return None


class _Training:
    """The stages of one run, from the first step or from a checkpoint."""

    def __init__(self, fabric: Fabric, recipe: Recipe, folder: RunFolder, options: Options, stops: Stops) -> None:
        self.fabric, self.recipe, self.folder, self.options, self.stops = fabric, recipe, folder, options, stops
        self.pretrainers = [self._prepared(number, stage) for number, stage in enumerate(recipe.stages)]
        self.modules = nn.ModuleList([*self.pretrainers, recipe.embedder])
        self.lengths = [stage.steps(recipe.source) for stage in recipe.stages]

    def _prepared(self, number: int, stage: Stage) -> Pretrainer:
        """A stage's module, whole: with the parts whose sizes follow from the data."""
        pretrainer, source = Pretrainer(stage), stage.source or self.recipe.source
        shown = next(self._looks(stage, number, 0, pretrainer))
        torch.manual_seed(derive_seed(self.options.seed, number, "prepare"))
        pretrainer.to(self.fabric.device).prepare(shown, len(source))
        return pretrainer

    def run(self, resume: bool) -> None:
        """Train what is left, then save the embedder."""
        saved = self.folder.load_checkpoint() if resume else None
        first = 0
        if saved is not None:
            first = saved["stage"]
            self.modules.load_state_dict(saved["modules"])
        if self.fabric.is_global_zero and resume:
            self.folder.cut_metrics(saved["total"] if saved else 0)
        done = saved["total"] if saved else 0
        shown = self.fabric.is_global_zero and not self.options.quiet
        with ProgressLine(sum(self.lengths), done=done, shown=shown) as progress:
            if self.recipe.couples_rows and any(stage.accumulate > 1 for stage in self.recipe.stages):
                progress.warn("the loss compares the rows of a batch, so accumulating batches is not the same as one larger batch")
            for number in range(first, len(self.recipe.stages)):
                self._run_stage(number, progress, saved if number == first else None)
        if self.fabric.is_global_zero:
            self.folder.save_encoder(self.recipe.embedder.state_dict())
        self.fabric.barrier()

    def _run_stage(self, number: int, progress: ProgressLine, saved: dict[str, Any] | None) -> None:
        stage, pretrainer, steps = self.recipe.stages[number], self.pretrainers[number], self.lengths[number]
        pretrainer.start(resumed=saved is not None)
        made = stage.make_optimizer([p for p in pretrainer.parameters() if p.requires_grad])
        rates = LearningRates(made, stage.schedule, pretrainer.parameter_groups())
        module, optimizer = self.fabric.setup(pretrainer, made)
        begin, passes = 0, partial(stage.passes, self.recipe.source)
        if saved is not None:
            begin = saved["step"]
            optimizer.load_state_dict(saved["optimizer"])
        every = self.options.log_every or max(1, steps // 100)
        batches = self._stream(stage, number, begin * stage.accumulate, pretrainer)
        monitor = Monitor(self.fabric, self.folder, stage.name, pretrainer, self.offset(number), begin, every, progress)
        checkpoint_due = CheckpointClock(self.options.checkpoint_every)
        if begin == 0:
            self._watch(0, stage)
        for step in range(begin, steps):
            if pretrainer.over:
                break
            rates.set(optimizer, step, steps)
            losses, weights = self._accumulate(stage, pretrainer, module, batches, step, steps)
            if stage.clip is not None:
                self.fabric.clip_gradients(module, optimizer, max_norm=stage.clip, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            pretrainer.after_step(step + 1, steps)
            monitor.after(step + 1, steps, losses, weights, optimizer.param_groups[0]["lr"])
            if passes(step + 1) > passes(step):
                self._watch(passes(step + 1), stage)
            if stage.early_stopping is not None and (step + 1 == steps or passes(step + 1) > passes(step)):
                self._look(passes(step + 1), stage, monitor, step + 1, last=step + 1 == steps)
            self._save_or_stop(number, step + 1, optimizer, checkpoint_due(step + 1))
        pretrainer.finish()
        if stage.early_stopping is not None:
            stage.early_stopping.restore(stage.embedder)

    def _watch(self, epoch: int, stage: Stage) -> None:
        """Show the stage's encoder to whoever follows it."""
        if self.options.watch is not None and self.fabric.is_global_zero:
            with frozen(stage.encoder, self.fabric.device), torch.no_grad():
                self.options.watch(epoch, stage.encoder)

    def _look(self, epoch: int, stage: Stage, monitor: Monitor, step: int, *, last: bool) -> None:
        """Show the stage's embedder to early stopping if a look is due; all ranks go by the first one's score."""
        stopping = stage.early_stopping
        if stopping is None or not stopping.due(epoch, last=last):
            return
        score = math.nan
        if self.fabric.is_global_zero:
            with frozen(stage.embedder, self.fabric.device), torch.no_grad():
                score = float(stopping.score(stage.embedder))
        score = self.fabric.broadcast(score)
        stopping.judge(score, stage.embedder.state_dict())
        monitor.note(step, {stopping.name: score})

    def _save_or_stop(self, number: int, step: int, optimizer: Any, due: bool) -> None:
        """After a step: write a checkpoint if one is due, and leave if that was asked for; all ranks decide alike."""
        last = step == self.lengths[number] or self.pretrainers[number].over
        stopping = any_rank(self.stops.asked, self.fabric.device)
        if last or stopping or any_rank(due, self.fabric.device):
            self._save(number, step, optimizer)
        if stopping and not (last and number + 1 == len(self.lengths)):
            raise InterruptedRunError(f"stopped at step {step} of {self.lengths[number]} and saved; go on with --resume")

    def _accumulate(
        self, stage: Stage, pretrainer: Pretrainer, module: Any, batches: Iterator[StepInput], step: int, steps: int
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Gradients of one optimiser step, from one batch or several; returns the last batch's losses and their combiner's weights."""
        for part in range(stage.accumulate):
            shown = next(batches)
            shown.number, shown.steps = step, steps
            with self.fabric.no_backward_sync(module, enabled=part + 1 < stage.accumulate):
                module(shown)
                losses = pretrainer.losses
                self._check_finite({name: float(loss.detach()) for name, loss in losses.items()}, step)
                scaled = {name: loss / stage.accumulate for name, loss in pretrainer.by_task(losses).items()}
                shared = [p for p in pretrainer.encoder.parameters() if p.requires_grad]
                weights = stage.combiner.backward(scaled, shared, self.fabric.backward, shown.draws.generator)
        return losses, weights

    def _stream(self, stage: Stage, number: int, start: int, model: Pretrainer) -> Iterator[StepInput]:
        """This rank's batches from batch `start` of the stage on, each with its own random numbers."""
        source, fabric, seed = stage.source or self.recipe.source, self.fabric, self.options.seed
        epoch, skip = divmod(start, source.steps(stage.batch_size))
        count, move = start, _Mover(fabric.device)
        while True:
            layout = self._layout(stage, number, epoch, model, skip)
            if skip == 0:
                torch.manual_seed(derive_seed(seed, number, "before epoch", epoch))
                model.before_epoch(epoch, partial(self._looks, stage, number, epoch, model))
            for batch in source.batches(layout):
                torch.manual_seed(derive_seed(seed, number, "dropout", count, fabric.global_rank))
                yield StepInput(move(batch), self._draws(batch, derive_seed(seed, number, "views", count)), 0, 0)
                count += 1
            epoch, skip = epoch + 1, 0

    def _looks(self, stage: Stage, number: int, epoch: int, model: Pretrainer) -> Iterator[StepInput]:
        """This rank's batches of an epoch, to be looked at before it begins."""
        source, move = stage.source or self.recipe.source, _Mover(self.fabric.device)
        for count, batch in enumerate(source.batches(self._layout(stage, number, epoch, model))):
            seed = derive_seed(self.options.seed, number, "look", epoch, count)
            yield StepInput(move(batch), self._draws(batch, seed), 0, 1)

    def _layout(self, stage: Stage, number: int, epoch: int, model: Pretrainer, skip: int = 0) -> Epoch:
        seed = derive_seed(self.options.seed, number)
        return Epoch(epoch, seed, stage.batch_size, self.fabric.global_rank, self.fabric.world_size, skip, model)

    def _draws(self, batch: Batch, seed: int) -> Draws:
        return Draws.seeded(seed, total=batch.total, start=batch.start, rows=batch.rows, device=self.fabric.device)

    def _check_finite(self, losses: dict[str, float], step: int) -> None:
        """Stop, on all ranks together, when a loss is NaN or infinite on any of them."""
        broken = [f"the loss {name!r} became {loss:g}" for name, loss in losses.items() if not math.isfinite(loss)]
        if not any_rank(bool(broken), self.fabric.device):
            return
        what = broken[0] if broken else "a loss of another rank became NaN or infinite"
        raise TrainingStoppedError(f"{what} at step {step + 1}; {self._kept()}; try a smaller learning rate or gradient clipping")

    def _save(self, stage: int, step: int, optimizer: Any) -> None:
        """Write a checkpoint after `step` of the stage."""
        total = self.offset(stage) + step
        broken = [name for name, value in self.pretrainers[stage].named_parameters() if not torch.isfinite(value).all()]
        if broken:
            raise TrainingStoppedError(
                f"the weights {broken[0]!r} became NaN or infinite by step {step}, from a gradient that was; {self._kept()}; "
                "try a smaller learning rate or gradient clipping"
            )
        if not self.fabric.is_global_zero:
            return
        place = {"stage": stage, "step": step, "total": total}
        self.folder.save_checkpoint({**place, "modules": self.modules.state_dict(), "optimizer": optimizer.state_dict()}, total)

    def _kept(self) -> str:
        kept = self.folder.checkpoints()
        return f"the checkpoint {str(kept[-1])!r} is kept" if kept else "no checkpoint had been written yet"

    def offset(self, stage: int) -> int:
        """Steps of all earlier stages."""
        return sum(self.lengths[:stage])


class _Mover:
    """Moves batches to the device; data that comes again and again, as one graph does, is moved once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before: Any = None
        self.moved: Any = None

    def __call__(self, batch: Batch) -> Batch:
        if batch.data is self.before:
            return replace(replace(batch, data=None).to(self.device), data=self.moved)
        moved = batch.to(self.device)
        self.before, self.moved = batch.data, moved.data
        return moved
