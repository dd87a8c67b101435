"""How fast two-view training on images is, and how much of a step the making of views takes.

    python benchmarks/images.py
    python benchmarks/images.py --device cuda --precision bf16 --compile --batch 256

Each case is trained for a few steps on random images that lie in memory as uint8; in a step, the parts are timed one after the other: data
(choosing a batch, moving it to the device), views (the asymmetric augmentation, both views), forward (encoder and Barlow Twins), backward,
optimiser. Cases take turns, so that a machine that slows down slows all of them; medians are shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anyview.console import make_console, make_table
from anyview.data.source import Batch, Epoch
from anyview.encoders.encoder import Encoder
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import Step
from anyview.views.draws import Draws
from anyview_images.datasets import ImageSource
from anyview_images.networks import Normalised
from anyview_images.resnet import ResNet
from anyview_images.views import AugmentationName, AugmentedPair
from anyview_images.vision_transformer import vit_small

PARTS = ("data", "views", "forward", "backward", "optimiser")


@dataclass(frozen=True)
class Case:
    """A network at the size that it is used at; batch: (on a CPU, on an accelerator)."""

    name: str
    encoder: Callable[[], Encoder]
    size: int
    augmentation: AugmentationName
    batch: tuple[int, int]


CASES = (
    Case("ResNet-18", lambda: ResNet(3), 224, "asymmetric", (8, 256)),
    Case("ViT-S/16", lambda: vit_small(3), 224, "asymmetric", (8, 256)),
    Case("ResNet-18, small stem", lambda: ResNet(3, stem="small"), 32, "asymmetric_small", (32, 1024)),
)


class Training:
    """One case in training; `step` returns the seconds that each part of a step took."""

    def __init__(self, case: Case, options: argparse.Namespace) -> None:
        self.device, self.size = torch.device(options.device), options.size or case.size
        self.batch_size = options.batch or case.batch[self.device.type != "cpu"]
        torch.manual_seed(0)
        stored = torch.randint(0, 256, (2 * self.batch_size, 3, self.size, self.size), dtype=torch.uint8)
        self.batches = self._endless(ImageSource(stored))
        self.maker = AugmentedPair(self.size, augmentation=case.augmentation)
        self.encoder = Normalised(case.encoder()).to(self.device).train()
        self.objective = BarlowTwins(self.encoder.dim, width=options.width).to(self.device).train()
        if options.compile:
            self.encoder.encoder.compile()
        parameters = [*self.encoder.parameters(), *self.objective.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
        self.precision = options.precision
        self.number = 0

    def step(self) -> dict[str, float]:
        """Train on one batch."""
        clock = Clock(self.device)
        batch: Batch = next(self.batches).to(self.device)
        clock("data")
        with self._autocast():
            draws = Draws.seeded(self.number, total=batch.total, device=self.device)
            views = self.maker(batch, draws)
            clock("views")
            loss = self.objective(Step(views, batch, draws, self.number, 1, self.encoder)).total
        clock("forward")
        loss.backward()
        clock("backward")
        self.optimizer.step()
        self.optimizer.zero_grad()
        clock("optimiser")
        self.number += 1
        return clock.seconds

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def _endless(self, source: ImageSource) -> Iterator[Batch]:
        number = 0
        while True:
            yield from source.batches(Epoch(number, batch_size=self.batch_size))
            number += 1


class Clock:
    """Seconds between calls, by the name of what was done; on an accelerator each call waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, dict[str, float]()
        self._wait()
        self.last = time.perf_counter()

    def __call__(self, part: str) -> None:
        self._wait()
        now = time.perf_counter()
        self.seconds[part], self.last = now - self.last, now

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds of each part, by case; "total" is the median of whole steps."""
    chosen = [case for case in CASES if options.only is None or any(word.lower() in case.name.lower() for word in options.only)]
    trainings = {case.name: Training(case, options) for case in chosen}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in trainings}
    for number in range(options.repeats + options.warmup):
        for name, training in trainings.items():
            seconds = training.step()
            if number >= options.warmup:
                taken[name].append(seconds)
    return {name: {**summary(steps), "batch": trainings[name].batch_size, "size": trainings[name].size} for name, steps in taken.items()}


def summary(steps: list[dict[str, float]]) -> dict[str, float]:
    """Medians over steps."""
    medians = {part: statistics.median(step[part] for step in steps) for part in PARTS}
    return {**medians, "total": statistics.median(sum(step.values()) for step in steps)}


def show(results: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """The table."""
    console = make_console()
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    settings = f"{options.precision}{', compiled' if options.compile else ''}"
    console.print(f"Barlow Twins on two views; torch {torch.__version__}, {machine}, {settings}; medians, ms per image", soft_wrap=True)
    table = make_table("network", "size", "batch", *PARTS, "images/s", "share of views")
    for name, found in results.items():
        parts = [f"{1e3 * found[part] / found['batch']:.3g}" for part in PARTS]
        rate, share = found["batch"] / found["total"], found["views"] / found["total"]
        table.add_row(name, str(found["size"]), str(found["batch"]), *parts, f"{rate:.1f}", f"{100 * share:.1f} %")
    console.print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="32", choices=["32", "bf16"])
    parser.add_argument("--compile", action="store_true", help="compile the encoder")
    parser.add_argument("--size", type=int, help="pixels of a view's sides, instead of each case's own")
    parser.add_argument("--batch", type=int, help="images per step, instead of each case's own")
    parser.add_argument("--width", type=int, default=2048, help="of Barlow Twins' projector")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--repeats", type=int, default=3, help="steps that count, of each case")
    parser.add_argument("--warmup", type=int, default=1, help="steps before them")
    parser.add_argument("--only", nargs="+", help="words of the cases that are wanted")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    results = measure(options)
    show(results, options)
    if options.json:
        options.json.write_text(json.dumps({"torch": torch.__version__, **vars(options), "json": None, "seconds": results}, indent=2))


if __name__ == "__main__":
    main()
