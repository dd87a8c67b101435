"""Barlow Twins and Mixed Barlow Twins on few images, trained long: what a nearest-neighbour and a linear probe say along the way.

    python benchmarks/overfitting.py --seeds 0 1 2 --figure docs/results/overfitting.svg

Bandara et al. (2023, arXiv 2312.02151) see kNN accuracy fall while Barlow Twins trains on, the more the wider the projector and the smaller
the data, and mixed samples cure it. Here the training images are a few of scikit-learn's digits, drawn by class and the same in every run;
the probes know their labels, the encoder does not, and all other digits are the test. Each training is kept and not made again.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study import figure, show, spread, study_parser

from anyview.data.splits import Split, stratified_split
from anyview.encoders.encoder import Encoder
from anyview.evaluation.embedding import embed
from anyview.evaluation.knn import knn
from anyview.evaluation.linear import linear
from anyview.evaluation.protocol import TRAINED, evaluate_rows
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.mixed_barlow_twins import MixedBarlowTwins
from anyview.stops import end_with_parent
from anyview.training import pretrain
from anyview_images.datasets import ImageSource, open_images
from anyview_images.recipes.pair import TINY, pair

METHODS = ("Barlow Twins", "Mixed Barlow Twins")
PROBES = ("kNN", "linear")
Curve = list[tuple[int, float, float]]
"""(epochs done, kNN accuracy, linear accuracy), in percent."""


@dataclass(frozen=True)
class Training:
    """One run: a method, a projector's width, a seed; scale: the least share of an image that a view shows."""

    method: str
    width: int
    seed: int
    images: int
    epochs: int
    every: int
    scale: float

    def curve(self, folder: Path) -> Curve:
        """The scores along the training, made when they are not kept in `folder`."""
        name = "-".join(str(value).lower().replace(" ", "_") for value in asdict(self).values())
        kept = folder / f"{name}.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(self.train(folder / name)))
        return [(int(epoch), first, second) for epoch, first, second in json.loads(kept.read_text())]

    def train(self, folder: Path) -> Curve:
        """Train, probing every so many epochs."""
        torch.set_num_threads(1)
        shown, judged, split = data(self.images)
        scores: Curve = []

        def watch(epoch: int, encoder: Encoder) -> None:
            if epoch % self.every == 0:
                scores.append((epoch, *probe(embed(encoder, judged), judged, split)))

        torch.manual_seed(self.seed)
        recipe = pair(
            shown,
            encoder=TINY,
            augmentation="digits",
            scale=(self.scale, 1.0),
            objective=self.objective(),
            epochs=self.epochs,
            batch_size=64,
            optimizer="adamw",
            lr=3e-3,
            weight_decay=1e-6,
        )
        pretrain(recipe, folder, seed=self.seed, overwrite=True, watch=watch)
        return scores

    def objective(self) -> Callable[[int], BarlowTwins | MixedBarlowTwins]:
        """Both share projector and redundancy term; mixing is what differs."""
        if self.method == METHODS[0]:
            return functools.partial(BarlowTwins, width=self.width, redundancy=1 / 128)
        return functools.partial(MixedBarlowTwins, hidden=self.width, width=self.width, unit=False, redundancy=1 / 128, mixing=4.0)


def data(images: int) -> tuple[ImageSource, ImageSource, Split]:
    """The training images without labels; all digits, training images first; and where the one part ends."""
    digits: Any = open_images("digits")
    drawn = stratified_split(digits.labels, 0, shares=(images / len(digits), 0.0, 1 - images / len(digits)))
    order = torch.cat([drawn.train, drawn.test])
    pixels, labels = digits.images[order], digits.labels[order]
    count = len(drawn.train)
    split = Split(torch.arange(count), torch.arange(0), torch.arange(count, len(order)), name=f"{count} digits, test on all others")
    return ImageSource(pixels[:count]), ImageSource(pixels, labels=labels), split


def probe(rows: np.ndarray, source: ImageSource, split: Split) -> tuple[float, float]:
    """kNN and linear accuracy in percent."""

    def score(protocol: Callable[..., dict[str, float]], **options: float) -> float:
        return 100 * evaluate_rows({TRAINED: rows}, source.labels, lambda _seed: split, protocol, [0], options).mean()

    return score(knn, k=20), score(linear, lr=0.05)


def main() -> None:
    """Train what is missing; print the scores at the best epoch and at the end, draw the curves."""
    parser = study_parser(__doc__, "runs/overfitting")
    parser.add_argument("--images", type=int, default=200, help="training images")
    parser.add_argument("--widths", type=int, nargs="+", default=[1024], help="of the projector")
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--every", type=int, default=40, help="epochs between probes")
    parser.add_argument("--scale", type=float, default=0.7, help="least share of an image that a view shows: the higher, the weaker")
    parser.add_argument("--figure", type=Path, help="where the picture goes (.svg)")
    options = parser.parse_args()
    trainings = [
        Training(method, width, seed, options.images, options.epochs, options.every, options.scale)
        for seed in options.seeds
        for width in options.widths
        for method in METHODS
    ]
    with ProcessPoolExecutor(options.jobs, initializer=end_with_parent) as pool:
        curves = dict(zip(trainings, pool.map(functools.partial(Training.curve, folder=options.out), trainings), strict=True))
    lines = {
        (method, width): [curve for training, curve in curves.items() if (training.method, training.width) == (method, width)]
        for width in options.widths
        for method in METHODS
    }
    columns = ("method", "width", *(f"{name}, {when}" for name in PROBES for when in ("highest mean", "at epoch", "last")))
    show(columns, [row(*key, found) for key, found in lines.items()], markdown=options.markdown)
    if options.figure:
        draw(lines, options)


def row(method: str, width: int, curves: list[Curve]) -> list[str]:
    """A method's line over seeds: the epoch at which the mean is highest, and the last."""
    cells = [method, str(width)]
    for column in (1, 2):
        by_epoch = {points[0][0]: [point[column] for point in points] for points in zip(*curves, strict=True)}
        best = max(by_epoch, key=lambda epoch: statistics.fmean(by_epoch[epoch]))
        cells += [spread(by_epoch[best]), str(best), spread(by_epoch[max(by_epoch)])]
    return cells


def draw(lines: dict[tuple[str, int], list[Curve]], options: argparse.Namespace) -> None:
    """Accuracy against epochs: means over seeds, and the band from the lowest to the highest."""
    with figure(options.figure, len(PROBES)) as panels:
        for column, (axes, name) in enumerate(zip(panels, PROBES, strict=True), start=1):
            for (method, width), curves in lines.items():
                label = method if len(options.widths) == 1 else f"{method}, width {width}"
                values = np.array([[point[column] for point in curve] for curve in curves])
                epochs = [point[0] for point in curves[0]]
                axes.plot(epochs, values.mean(0), label=label)
                axes.fill_between(epochs, values.min(0), values.max(0), alpha=0.2)
            axes.set(xlabel="epochs", ylabel=f"{name} accuracy, %", xlim=(0, options.epochs), ylim=(75, None))
        panels[0].legend(frameon=False)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
