"""Frame projections: a window, its coefficients in a basis and in a frame are views of one thing; nothing is augmented.

Demirel, Holz. Learning Without Augmenting: Unsupervised Time Series Representation Learning via Frame Projections. NeurIPS 2025,
arXiv 2510.22655.

Views. x itself; its Fourier transform, orthonormal, read as amplitude and phase; magnitudes of complex Morlet wavelets at 48 scales,
overcomplete. One encoder for each.

Stage 1. Projections of every pair of views find each other among those of all windows (NT-Xent, temperature .15), and mappers imitate those
of the frames from the window's. Any other objective may stand between each pair of views.

Stage 2. Encoders are frozen, in evaluation mode; new mappers of 8 weights each imitate the frames' unprojected rows from the window's.

What remains is the encoder h of windows with the new mappers: [g_fourier(h), h, g_morlet(h)]. No frame is needed any more.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, cast

import torch

from anyview.data.source import Source
from anyview.encoders.encoder import Encoder, Streams
from anyview.objectives.objective import Objective, ObjectiveSlot, check_needs
from anyview.objectives.vicreg import VICReg
from anyview.ranges import LogUniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Cosine
from anyview_timeseries.datasets import Reading, open_series
from anyview_timeseries.encoders import ResNet1d
from anyview_timeseries.frame_encoders import frame_encoder
from anyview_timeseries.frames.table import FrameOptions, make_frames
from anyview_timeseries.mappers import MappedTime, Mapper
from anyview_timeseries.networks import EncoderSlot, make_encoder, require_whole
from anyview_timeseries.objectives import EachPair, FrameContrast, ImitateFrames
from anyview_timeseries.pooling import PoolKind
from anyview_timeseries.views import Frames

QUICK: dict[str, Any] = {
    "encoder": functools.partial(ResNet1d, width=16, dropout=0.0, stride=2),
    "frame_options": {"morlet": {"pool": 4}},
    "frame_width": 4,
    "cache": True,
    "batch_size": 256,
    "epochs": 40,
}
PAPER: dict[str, Any] = {
    "encoder": ResNet1d,
    "frame_options": None,
    "frame_width": None,
    "cache": False,
    "objective": FrameContrast,
    "batch_size": 1024,
    "epochs": 256,
    "mapper_epochs": None,
    "lr": 1e-3,
    "weight_decay": 1e-6,
}
PRESETS: Presets = {
    "ieee_spc12": {**QUICK, "encoder": functools.partial(ResNet1d, dropout=0.2, stride=4), "mapper_epochs": 10},
    "uci_har_subset": {**QUICK, "objective": functools.partial(VICReg, width=256), "epochs": 20},
    "chirps": {**QUICK, "batch_size": 128},
    "demo": {
        "data": "chirps",
        "reading": {"scale": "window"},
        "frame_options": {"morlet": {"count": 16, "pool": 4}},
        "batch_size": 64,
        "epochs": 60,
        "mapper_epochs": 5,
    },
    "paper": PAPER,
    "grid": {
        "data": "chirps",
        "encoder": functools.partial(ResNet1d, dim=16, width=4, blocks=2, dropout=0.0),
        "frame_options": {"morlet": {"count": 8, "pool": 8}},
        "batch_size": 160,
        "epochs": 1,
    },
}
RESULTS = {"ieee_spc12": "the abstract claims errors 15 to 20 % below earlier self-supervision; its tables were not at hand"}
RANGES = {"lr": LogUniform(1e-4, 1e-2), "weight_decay": LogUniform(1e-7, 1e-4), "objective.temperature": LogUniform(0.05, 0.5)}


@recipe(presets=PRESETS, views=Frames, results=RESULTS, ranges=RANGES)
def frame_projections(
    data: str = "ieee_spc12",
    *,
    reading: Reading = None,
    frames: tuple[str, ...] = ("fourier", "morlet"),
    frame_options: FrameOptions = None,
    encoder: EncoderSlot = ResNet1d,
    frame_width: int | None = None,
    pool: PoolKind = "positions",
    objective: ObjectiveSlot = FrameContrast,
    embedding: Literal["mapped", "time"] = "mapped",
    cache: bool = False,
    epochs: int = 256,
    mapper_epochs: int | None = None,
    batch_size: int = 1024,
    lr: float = 1e-3,
    weight_decay: float = 1e-6,
) -> Recipe:
    """Views of a window are its coefficients in a basis and in a frame; an encoder of each, contrast, mappers (Demirel and Holz, 2025).

    Args:
        data: a data set's name, or a file or folder of series
        reading: how series become windows; see the options of open_series
        frames: what a window is seen in beside itself: fourier, cosine, haar, db2 to db8, wavelets, morlet, mexican_hat, gabor; as controls
            identity (two encoders of one view) and random (an orthonormal matrix that means nothing)
        frame_options: options of frames, by name
        encoder: any encoder of windows; the others get rows of its width
        frame_width: channels of the first layer of the encoders of maps and of bands; a quarter of the rows' width and 16 by default
        pool: how the encoders of frames make one row of many positions; mean and attention read windows of any length
        objective: any objective of two views, which then stands between every pair of them
        embedding: with the mappers' rows beside the time encoder's, or the latter alone, without stage 2
        cache: keep the coefficients of all samples, which takes the memory that all views do
        epochs: passes over the windows in stage 1
        mapper_epochs: the same in stage 2, by default as many
        batch_size: windows per step, over all devices
        lr: Adam's learning rate, at its highest; in stage 2 it stays there
        weight_decay: Adam's
    """
    source = open_series(data, **(reading or {}))
    require_whole(source)
    views = Frames(make_frames(frames, frame_options), cache=cache)
    encoders = _encoders(source, views, encoder, frame_width, pool)
    time = cast("Encoder", encoders.encoders["time"])
    adam = functools.partial(torch.optim.Adam, lr=lr, weight_decay=weight_decay)
    contrast = Stage(
        tasks=[Task(views, _objective(objective, encoders.dim, views))],
        encoder=encoders,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=adam,
        schedule=Cosine(),
    )
    if embedding == "time":
        return Recipe(source=source, stages=[contrast], embedder=time)
    mappers = {name: Mapper(encoders.dim) for name in views.frames}
    imitate = Stage(
        tasks=[Task(views, ImitateFrames(encoders.dim, mappers))],
        encoder=encoders,
        epochs=mapper_epochs or epochs,
        batch_size=batch_size,
        optimizer=adam,
        frozen=[encoders],
        name="mappers",
    )
    return Recipe(source=source, stages=[contrast, imitate], embedder=MappedTime(time, mappers))


def _encoders(source: Source, views: Frames, slot: EncoderSlot, width: int | None, pool: PoolKind) -> Streams:
    """One encoder for the window and one for each frame, of the kind that its layout asks for."""
    encoders: dict[str, Encoder] = {"time": make_encoder(slot, source)}
    for name, frame in views.frames.items():
        encoders[name] = frame_encoder(
            frame, source.shape["channels"], source.shape["length"], time=slot, dim=encoders["time"].dim, width=width, pool=pool
        )
    return Streams(encoders)


def _objective(slot: ObjectiveSlot, dim: int, views: Frames) -> Objective:
    """What stands between the views: an objective that reads all of them, or one of two views for every pair."""
    made = slot(dim)
    check_needs(made, views.gives, views=f"{Frames.__name__} with encoders of frames", tokens=False)
    return made if isinstance(made, FrameContrast) else EachPair(lambda: slot(dim), views.gives.views)
