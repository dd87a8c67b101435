"""Protocols that predict a number: heart rate by classes over a range, and step counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from anyview.errors import UserError
from anyview.evaluation.limits import Limits
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData, mean_of_train
from anyview_timeseries.series import SeriesSource
from anyview_timeseries.spectra import peak

PROBE_BATCH = 1024
LIMITS = {"bins": Limits(at_least=2), "lr": Limits(above=0), "epochs": Limits(at_least=1)}


def _series(data: ProtocolData) -> tuple[SeriesSource, float]:
    """The series that rows are of, and their rate in Hz; raises UserError where rows are of something else, or nothing says the rate."""
    source = data.source
    if not isinstance(source, SeriesSource):
        raise UserError(f"it reads time series, and the data {source.name!r} is something else")
    if source.rate is None:
        raise UserError(f"it needs the sampling rate of {source.name!r} in Hz, which nothing says; add --reading.rate HZ")
    return source, source.rate


def peak_per_minute(data: ProtocolData, _seed: int, *, low: float, high: float, **_options: Any) -> Scores:
    """The errors of answering with the peak of each window's spectrum, in cycles a minute."""
    source, rate = _series(data)
    most = min(high, 30 * rate)
    if low >= most:
        raise UserError(f"the series have {rate:g} Hz, which shows nothing above {30 * rate:g} cycles a minute")
    return data.errors(60 * peak(source.take(data.split.test).numpy(), rate, low / 60, most / 60))


@protocol(
    headline="mae",
    smaller=True,
    labels="numbers",
    needs="source",
    majority=mean_of_train,
    constant="mean predictor",
    baselines={"spectral peak": peak_per_minute},
    units={"mae": "bpm", "rmse": "bpm", "correlation": ""},
    limits=LIMITS,
)
def heart_rate(
    data: ProtocolData, seed: int, *, low: float = 30.0, high: float = 210.0, bins: int = 180, lr: float = 0.03, epochs: int = 256
) -> Scores:
    """Heart rate by a softmax over bins of a beat a minute: errors and correlation in bpm of the likeliest bin.

    The probe of Demirel and Holz (2025, arXiv 2510.22655): one linear layer on the rows as they are, weights N(0, .01²), bias 0, Adam,
    learning rate by half a cosine to 0, batches of 1024 of the training part, the last epoch. It serves any number: low, high: the range;
    bins: how many classes it has, of equal width; a class answers with its lower end, as published, where a bin is 1 wide. seed: of
    weights and order. Raises UserError for training labels out of the range.
    """
    rows, numbers = data.part("train")
    width = (high - low) / bins
    if not low < high:
        raise UserError(f"a range of numbers goes from low to high, and was given as {low:g} to {high:g}; exchange them")
    _check_range(numbers, low, high)
    classes = np.clip(np.floor((numbers - low) / width), 0, bins - 1).astype(np.int64)
    layer = softmax_probe(torch.from_numpy(rows), torch.from_numpy(classes), bins, seed=seed, lr=lr, epochs=epochs)
    likeliest = (torch.from_numpy(data.part("test")[0]) @ layer[0].T + layer[1]).argmax(1).numpy()
    return data.errors(low + width * likeliest + (0.0 if _whole(numbers, width) else width / 2))


def _check_range(numbers: np.ndarray, low: float, high: float) -> None:
    outside = (numbers < low) | (numbers >= high)
    if outside.any():
        found = f"{int(outside.sum())} of {len(numbers)} training labels lie outside, such as {numbers[outside][0]:g}"
        raise UserError(f"the range from {low:g} to {high:g} was asked for, and {found}; choose another low and high")


def _whole(numbers: np.ndarray, width: float) -> bool:
    """Whether labels are whole numbers and a bin is as wide as one: then a bin is its number, else its middle is the better answer."""
    return width == 1 and bool((numbers == np.floor(numbers)).all())


def softmax_probe(rows: Tensor, classes: Tensor, count: int, *, seed: int, lr: float, epochs: int) -> tuple[Tensor, Tensor]:
    """Weight (count, D) and bias (count,) of a linear layer trained on rows (n, D) towards classes (n,); see `heart_rate`."""
    generator = torch.Generator().manual_seed(seed)
    weight = (0.01 * torch.randn(count, rows.shape[1], generator=generator)).requires_grad_()
    bias = torch.zeros(count, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=lr, fused=True)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
        for index in torch.randperm(len(rows), generator=generator).split(PROBE_BATCH):
            optimizer.zero_grad()
            cross_entropy(rows[index] @ weight.T + bias, classes[index]).backward()
            optimizer.step()
    return weight.detach(), bias.detach()


def peak_per_window(data: ProtocolData, _seed: int, **_options: Any) -> Scores:
    """The errors of answering with the cycles in a window at the peak of its spectrum, from half a cycle to 5 a second."""
    source, rate = _series(data)
    seconds = source.shape["length"] / rate
    found = peak(source.take(data.split.test).numpy(), rate, 0.5, min(5.0, rate / 2))
    return data.errors(found * seconds)


@protocol(
    headline="mape",
    smaller=True,
    labels="numbers",
    needs="source",
    majority=mean_of_train,
    constant="mean predictor",
    baselines={"spectral peak": peak_per_window},
    units={"mae": "steps", "rmse": "steps", "correlation": ""},
    limits=LIMITS,
)
def step_count(
    data: ProtocolData, seed: int, *, low: float = 20.0, high: float = 69.0, bins: int = 49, lr: float = 0.03, epochs: int = 256
) -> Scores:
    """Steps in a window by a softmax over counts, by default 20 to 68: percentage error, mean absolute error, RMSE.

    The probe and its options are those of heart_rate.
    """
    return heart_rate(data, seed, low=low, high=high, bins=bins, lr=lr, epochs=epochs)
