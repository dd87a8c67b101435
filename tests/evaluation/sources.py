"""Sources and subjects that tests of protocols share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from anyview.data.arrays import ArraySource
from anyview.data.source import Source
from anyview.encoders.encoder import Encoder
from anyview.encoders.mlp import MLP
from anyview.evaluation.protocol import RANDOM, RAW, TRAINED, Result, evaluate_rows
from anyview.evaluation.protocol_data import any_split
from anyview.evaluation.subject import RawFeatures, TrainedEncoder, UntrainedEncoder, only_sources


def clusters(
    *,
    samples: int = 300,
    width: int = 12,
    classes: int = 4,
    separation: float = 3.0,
    seed: int = 0,
    centres: int = 0,
    name: str = "clusters",
) -> ArraySource:
    """Gaussian clusters, one per class, around centres that a seed of their own decides."""
    random = np.random.default_rng(seed)
    means = separation * np.random.default_rng(100 + centres).normal(size=(classes, width)) / width**0.5
    labels = np.arange(samples) % classes
    return ArraySource((means[labels] + random.normal(size=(samples, width))).astype(np.float32), labels, name=name)


def unlabelled(source: ArraySource) -> ArraySource:
    return ArraySource(source.x, name=f"{source.name} without labels")


def build(width: int = 12) -> Encoder:
    return MLP(width, hidden=16, dim=6, layers=3)


def subjects(source: Source, open: Any = only_sources, encoder: Encoder | None = None) -> dict[str, Any]:
    """A "trained" encoder and its controls."""
    torch.manual_seed(5)
    trained = encoder or build(source.shape["features"])
    fresh = UntrainedEncoder(lambda: build(source.shape["features"]), source, open=open)
    return {TRAINED: TrainedEncoder(trained, source, open=open), RANDOM: fresh, RAW: RawFeatures(source, open=open)}


def result_of(source: Source, protocol: Any, seeds: Any = (0, 1), open: Any = only_sources, **options: Any) -> Result:
    """A protocol on a source, all controls beside the encoder."""
    return evaluate_rows(subjects(source, open), source.labels, lambda seed: any_split(source, seed), protocol, list(seeds), options)
