"""Whether a training step would run on an accelerator, asked without one.

Tensors are stood in for by ones that know shape, type and device and hold no numbers (torch's FakeTensorMode), on a device that torch lets
Python define. Forward, backward and optimiser run as they would on a GPU, and what fails or waits there raises: tensors of two devices in
one operation, numbers of another device's generator, a number that the host reads, a tensor that is copied to the device in a step.

`python -m anyview.testing.accelerator [PLUGIN ...]` tries every objective in every recipe of the plugins that takes one, a line for each.
The device is the process's from then on, so tests run it in a process of its own.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from anyview.data.source import Batch, Epoch, Source
from anyview.objectives.objective import MismatchError
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import grid
from anyview.views.draws import Draws

DEVICE = "standin"


class StandInGenerator(torch.Generator):
    """A generator of the device; no numbers come of it."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device that its numbers would be on."""
        return torch.device(DEVICE, 0)


class _Generators(TorchFunctionMode):
    """Lets torch make numbers without their generator, and refuses those of another device."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if (generator := options.pop("generator", None)) is not None:
            device = torch.device(options.get("device") or (args[0].device if args and isinstance(args[0], Tensor) else "cpu"))
            if device.type != generator.device.type:
                raise RuntimeError(f"{function.__name__} makes numbers on {device.type} with a generator of {generator.device.type}")
        return function(*args, **options)


class _NoCopies(TorchDispatchMode):
    """Refuses what comes from the host within a step: the host would wait for it to arrive."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        copied = "copy" in str(function) and any(isinstance(value, Tensor) and value.device.type == "cpu" for value in args)
        if copied and isinstance(found, Tensor) and found.device.type == DEVICE:
            raise RuntimeError(f"a tensor {tuple(found.shape)} is copied from the host to the device within a step")
        return found


@contextmanager
def standin_device() -> Iterator[FakeTensorMode]:
    """Tensors without numbers, for the length of a block; modules that are moved take stand-ins for their parameters."""
    if torch._C._get_privateuse1_backend_name() != DEVICE:
        _setup_privateuseone_for_python_backend(DEVICE)
        getattr(torch, DEVICE).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    with FakeTensorMode() as mode, _Generators(), patch.object(nn.Module, "to", functools.partialmethod(_moved, mode)):
        yield mode


def check_device(stage: Stage, source: Source) -> None:
    """Raise what a training step of a stage would raise on an accelerator, or RuntimeError where the host would wait for it.

    Views, forward, backward, optimiser and `after_step` are run on one batch of the source; `before_epoch` is not, which may wait.
    """
    pretrainer = Pretrainer(stage).train()
    batch = next(iter(source.batches(Epoch(batch_size=stage.batch_size))))
    with standin_device() as mode:
        pretrainer.to(DEVICE)
        draws = Draws(StandInGenerator(), batch.start, batch.rows, batch.total)
        shown = StepInput(_stood_in(batch, mode).to(DEVICE), draws, 0, grid.STEPS)
        pretrainer.prepare(shown, len(source))
        for name, value in (*pretrainer.named_parameters(), *pretrainer.named_buffers()):
            if value.device.type != DEVICE:
                raise RuntimeError(f"{name} was made on {value.device.type} in prepare, and belongs on the objective's device")
        pretrainer.start()
        _step(stage, pretrainer, shown)


def _step(stage: Stage, pretrainer: Pretrainer, shown: StepInput) -> None:
    optimizer = stage.make_optimizer([parameter for parameter in pretrainer.parameters() if parameter.requires_grad])
    shared = [parameter for parameter in stage.encoder.parameters() if parameter.requires_grad]
    with _NoCopies():
        losses = pretrainer(shown)
        stage.combiner.backward(pretrainer.by_task(losses), shared, Tensor.backward, shown.draws.generator)
    optimizer.step()  # torch's own; its count of steps lies on the host
    optimizer.zero_grad()
    with _NoCopies():
        pretrainer.after_step(1, grid.STEPS)


def _moved(module: nn.Module, mode: FakeTensorMode, device: Any) -> nn.Module:
    """The module with stand-ins on the device in the place of its parameters and buffers; those that are shared stay shared."""
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, old in part._parameters.items():
            if old is not None:
                moved = made.get(id(old)) or nn.Parameter(_standin(old, mode).detach().to(device), old.requires_grad)
                part._parameters[name] = made[id(old)] = moved
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else _standin(buffer, mode).to(device)
    return module


def _stood_in(batch: Batch, mode: FakeTensorMode) -> Batch:
    def stand_in(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: stand_in(item) for name, item in value.items()}
        return _standin(value, mode) if isinstance(value, Tensor) else value

    return replace(batch, **{name: stand_in(getattr(batch, name)) for name in ("data", "index", "labels", "groups")})


def _standin(value: Tensor, mode: FakeTensorMode) -> Tensor:
    return value if isinstance(value, FakeTensor) else mode.from_tensor(value)


def cells(plugins: list[str]) -> Iterator[tuple[str, str, str]]:
    """Recipe, objective and "ok", or what is wrong and where, for every pair that goes together."""
    for column in grid.columns():
        for recipe in column.recipes if column.plugin in plugins or not plugins else ():
            for name, objective in grid.objectives().items():
                try:
                    built = recipe.build(functools.partial(objective, **grid.small_sizes(objective)))
                except MismatchError:
                    continue
                yield f"{column.plugin}/{recipe.name}", name, verdict_on(built.stages[0], built.source)


def verdict_on(stage: Stage, source: Source) -> str:
    """ "ok", or where `check_device` raised what."""
    try:
        check_device(stage, stage.source or source)
    except Exception as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "anyview" in frame.filename and frame.filename != __file__]
        where = f"{own[-1].filename.rpartition('/')[2]}:{own[-1].lineno} {own[-1].line}: " if own else ""
        return f"{where}{type(error).__name__} {' '.join(str(error).split())}"
    return "ok"


def main(plugins: list[str]) -> int:
    """Print a line for each cell; 1 where one of them is not ok."""
    ill = 0
    for recipe, objective, verdict in cells(plugins):
        ill |= verdict != "ok"
        print(f"{recipe}\t{objective}\t{verdict}", flush=True)
    return ill


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
