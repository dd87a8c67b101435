"""Data that the evaluation tests share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from anyview.data.splits import Split, stratified_split
from anyview.evaluation.protocol_data import ProtocolData

MakeData = Callable[..., ProtocolData]


def draw(*, samples: int = 300, width: int = 12, classes: int = 4, separation: float = 3.0, seed: int = 0) -> ProtocolData:
    """Gaussian clusters, one per class, split 60/20/20."""
    random = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    centres = separation * random.normal(size=(classes, width)) / width**0.5
    rows = (centres[labels] + random.normal(size=(samples, width))).astype(np.float32)
    return ProtocolData(rows, labels, stratified_split(torch.from_numpy(labels), seed), classes)


@pytest.fixture
def blobs() -> MakeData:
    return draw


@pytest.fixture(scope="session")
def cora(data_root) -> ProtocolData:
    """Raw features of Cora, rows that sum to one, public split."""
    path = data_root / "graphs" / "Cora" / "cora.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the data folder")
    with np.load(path) as file:
        features = file["node_features"].astype(np.float32)
        labels = file["node_labels"].astype(np.int64).ravel()
        masks = [torch.from_numpy(file[f"{part}_masks"].astype(bool).ravel()) for part in ("train", "val", "test")]
    return ProtocolData(features / features.sum(1, keepdims=True), labels, Split.from_masks(*masks), 7)
