"""The device that stands in for an accelerator computes what the CPU computes, refuses what a GPU refuses, and notes what it waits for."""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from anyview.data.arrays import ArraySource
from anyview.data.source import Batch
from anyview.encoders.mlp import MLP
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.recipe import Stage, Task
from anyview.testing.accelerator import verdict_on
from anyview.testing.standin import DEVICE, standin_device
from anyview.testing.tiny import sgd, tiny_batch
from anyview.views.draws import Draws
from anyview.views.maker import ViewMaker
from anyview.views.noise import NoisePair
from anyview.views.view import ViewSet

Elsewhere = Callable[..., Any]


def sentence_of(function: Callable[[], Any]) -> str:
    """What a function raises on the device."""
    try:
        with standin_device():
            function()
    except (RuntimeError, TypeError) as error:
        return f"{type(error).__name__} {error}"
    return "nothing"


def numbers() -> Tensor:
    return torch.arange(6.0, device=DEVICE).view(2, 3)


def trained(device: str) -> list[list[float]]:
    """Weights of two linear layers that share theirs, after a step of Adam."""
    with standin_device():
        torch.manual_seed(0)
        layer = nn.Linear(3, 3)
        both = nn.Sequential(layer, nn.BatchNorm1d(3), layer).to(device)
        assert both[0].weight is both[2].weight
        assert len(list(both.parameters())) == 4
        rows = torch.randn(5, 3, generator=torch.Generator(device).manual_seed(1), device=device)
        optimizer = torch.optim.Adam(both.parameters(), lr=0.1)
        both(rows).square().mean().backward()
        optimizer.step()
        found: list[list[float]] = copy.deepcopy(both)[0].weight.tolist()
        return found


def test_a_step_gives_what_it_gives_on_the_cpu(elsewhere: Elsewhere) -> None:
    assert elsewhere(trained, DEVICE) == elsewhere(trained, "cpu")


def kept() -> list[float]:
    with standin_device():
        file = io.BytesIO()
        torch.save({"a": numbers().requires_grad_()}, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)["a"]
        assert loaded.device.type == "cpu"
        found: list[float] = loaded.flatten().tolist()
        return found


def test_a_file_keeps_the_numbers(elsewhere: Elsewhere) -> None:
    assert elsewhere(kept) == [0, 1, 2, 3, 4, 5]


def sparse() -> tuple[bool, list[list[float]]]:
    with standin_device():
        matrix = torch.eye(3).to_sparse_csr().to(DEVICE)
        return matrix.is_sparse_csr and matrix.device.type == DEVICE, (matrix @ numbers().T).tolist()


def test_sparse_matrices_are_there_too(elsewhere: Elsewhere) -> None:
    assert elsewhere(sparse) == (True, [[0, 3], [1, 4], [2, 5]])


def makes_from_lists() -> list[str]:
    with standin_device():
        made = [torch.tensor([1.0], device=DEVICE), torch.as_tensor([1], device=DEVICE), numbers().new_tensor([1]), torch.tensor([1.0])]
        return [f"{one.device.type} {one.dtype}" for one in made]


def test_lists_become_tensors_where_they_are_asked_for(elsewhere: Elsewhere) -> None:
    floats, integers = f"{DEVICE} torch.float32", f"{DEVICE} torch.int64"
    assert elsewhere(makes_from_lists) == [floats, integers, floats, "cpu torch.float32"]


def mixed() -> None:
    numbers() + torch.ones(3)


def mixed_in_place() -> None:
    numbers().add_(torch.ones(3))


def drawn_elsewhere() -> None:
    torch.rand(2, device=DEVICE, generator=torch.Generator())


def shuffled_elsewhere() -> None:
    numbers().uniform_(generator=torch.Generator())


def sent_from_the_host() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            dist.all_reduce(numbers())
            dist.all_reduce(nn.Parameter(torch.ones(3), requires_grad=False))
        finally:
            dist.destroy_process_group()


def read_as_array() -> None:
    numbers().numpy()


def made_an_array() -> None:
    np.asarray(numbers())


def unsaid() -> None:
    numbers() + torch.tensor(1.0) + numbers()[torch.tensor([0])] + numbers().numpy(force=True).sum()


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (mixed, "RuntimeError expected all tensors on one device, and aten.add.Tensor was given some of standin and some of cpu"),
        (mixed_in_place, "RuntimeError expected all tensors on one device, and aten.add_.Tensor was given some of standin and some of cpu"),
        (drawn_elsewhere, "RuntimeError rand makes numbers on standin with a generator of cpu"),
        (shuffled_elsewhere, "RuntimeError uniform_ makes numbers on standin with a generator of cpu"),
        (
            sent_from_the_host,
            "RuntimeError c10d.allreduce_.default was given a tensor of cpu, and a GPU's processes exchange its own tensors alone",
        ),
        (read_as_array, "TypeError a tensor of standin cannot become an array; copy it to the CPU first"),
        (made_an_array, "TypeError a tensor of standin cannot become an array; copy it to the CPU first"),
        (unsaid, "nothing"),
    ],
)
def test_what_a_gpu_refuses_is_refused(function: Callable[[], None], sentence: str, elsewhere: Elsewhere) -> None:
    assert elsewhere(sentence_of, function) == sentence


WAITING: dict[str, Callable[[Tensor], Any]] = {
    "a number": lambda x: float(x.sum()),
    "a truth": lambda x: bool(x.any()),
    "a list": lambda x: x.tolist(),
    "an array": lambda x: x.numpy(force=True),
    "a copy to the host": lambda x: x.cpu(),
    "a copy to the device": lambda x: torch.ones(3).to(x),
    "a list to the device": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "places": lambda x: x.nonzero(),
    "those that are": lambda x: x[x > 2],
    "an index of the host": lambda x: x[torch.tensor([0])],
    "different ones": lambda x: x.unique(),
    "as often as told": lambda x: torch.arange(6, device=x.device).repeat_interleave(x.flatten().long()),
}
QUIET: dict[str, Callable[[Tensor], Any]] = {
    "a sum": lambda x: x.sum(),
    "a choice": lambda x: torch.where(x > 2, x, 0.0),
    "an index": lambda x: x[torch.zeros(1, dtype=torch.long, device=x.device)],
    "a slice": lambda x: x[:, 1:],
    "a number of the host": lambda x: x + float(torch.ones(3).sum()),
    "a number to the device": lambda x: x.new_full((), 2.0),
    "a gradient": lambda x: x.clone().requires_grad_().square().sum().backward(),
}


def noted(what: str) -> tuple[list[str], list[str]]:
    """Where the host waits while it is noted, and while it is not."""
    with standin_device() as watch:
        function, x = {**WAITING, **QUIET}[what], numbers()
        function(x)
        before = list(watch.waits)
        with watch.noting():
            function(x)
        return before, watch.waits


@pytest.mark.parametrize("what", [*WAITING, *QUIET])
def test_the_host_waits_for_numbers_sizes_and_copies(what: str, elsewhere: Elsewhere) -> None:
    before, within = elsewhere(noted, what)
    assert before == []
    assert len(within) == (what in WAITING)
    assert all(place.startswith("test_standin.py:") for place in within)


class Changed(ViewMaker):
    """Noisy pairs, the first of them changed."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.maker = NoisePair(0.1)
        self.change, self.gives = change, self.maker.gives

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        views = self.maker(batch, draws)
        views.views[0].data = self.change(views.views[0].data)
        return views


class HostBuffer(BarlowTwins):
    """Makes a buffer in `prepare` where torch makes it if nobody says."""

    def prepare(self, views: ViewSet, samples: int) -> None:
        self.register_buffer("counts", torch.zeros(samples))


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda rows: rows,
    "host tensor": lambda rows: rows + torch.ones(rows.shape[1]),
    "copy": lambda rows: rows + torch.ones(rows.shape[1]).to(rows),
    "host reads": lambda rows: rows / float(rows.max()),
    "host draws": lambda rows: rows + torch.rand(rows.shape[1], device=rows.device, generator=torch.Generator()),
}


def verdict(what: str) -> str:
    """On the training of an encoder whose views are changed, or whose objective is `HostBuffer`."""
    source, encoder = ArraySource(tiny_batch().data, name="tiny"), MLP(12, hidden=8, dim=8, layers=2)
    objective = HostBuffer(8, width=8) if what == "host buffer" else BarlowTwins(8, width=8)
    views = Changed(CHANGES.get(what, CHANGES["none"]))
    return verdict_on(Stage([Task(views, objective)], encoder, epochs=1, batch_size=6, optimizer=sgd), source)


@pytest.mark.parametrize(
    ("what", "beginning"),
    [
        ("none", "ok"),
        ("host tensor", "fails at test_standin.py:"),
        ("copy", "waits at test_standin.py:"),
        ("host reads", "waits at test_standin.py:"),
        ("host draws", "fails at test_standin.py:"),
        ("host buffer", "fails at accelerator.py:"),
    ],
)
def test_a_stage_that_would_fail_or_wait_is_found(what: str, beginning: str, elsewhere: Elsewhere) -> None:
    assert elsewhere(verdict, what).startswith(beginning)
