"""Linear probe on raw rows, full-batch Adam: the protocol of GraphMAE (Hou et al., 2022, arXiv 2205.10803)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anyview.evaluation.limits import Limits
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData, measure


@protocol(
    headline="accuracy",
    several="micro_f1",
    facts=("best_epoch",),
    classifies=True,
    limits={"lr": Limits(above=0), "weight_decay": Limits(at_least=0), "epochs": Limits(at_least=1)},
)
def linear(data: ProtocolData, seed: int, *, lr: float = 0.01, weight_decay: float = 1e-4, epochs: int = 300) -> Scores:
    """One linear layer on raw rows: softmax cross-entropy for classes, binary cross-entropy and micro-F1 (logit >= 0) for yes/no answers.

    seed: of the initial weights. lr, weight_decay: Adam's (L2 added to the gradient). epochs: full-batch steps.
    Returns the test scores at the last epoch and, where there is a validation part, at the epoch of the best validation score (ties: the
    later one), with that epoch's number, from 1.
    """
    rows, labels = data.part("train")
    fit = fit_linear(
        torch.from_numpy(rows),
        _targets(labels, data.classes),
        data.part("validation"),
        softmax=not data.several,
        seed=seed,
        lr=lr,
        weight_decay=weight_decay,
        epochs=epochs,
    )
    test = torch.from_numpy(data.part("test")[0])
    scores = data.scores(fit.last.predict(test), None if data.several else fit.last.logits(test).softmax(1).numpy())
    if fit.best is not None:
        scores |= {f"{data.measure}_best_validation": data.score(fit.best.predict(test)), "best_epoch": float(fit.best_epoch)}
    return scores


@dataclass(frozen=True, slots=True)
class Layer:
    """weight (C, D), bias (C,); softmax: whether the answers exclude each other."""

    weight: Tensor
    bias: Tensor
    softmax: bool

    def logits(self, rows: Tensor) -> Tensor:
        """(n, C) logits of rows (n, D)."""
        return (self.weight @ rows.T).T + self.bias  # in this order a few classes cost half of rows @ weight.T

    def predict(self, rows: Tensor) -> np.ndarray:
        """(n,) classes, or (n, C) zeros and ones, of rows (n, D)."""
        logits = self.logits(rows)
        return (logits.argmax(1) if self.softmax else (logits >= 0).long()).numpy()

    def copy(self) -> Layer:
        """The layer as it is now."""
        return Layer(self.weight.clone(), self.bias.clone(), self.softmax)


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained layer at its last epoch, and at the epoch of the best validation score; best is None without a validation part."""

    last: Layer
    best: Layer | None
    best_epoch: int


def fit_linear(
    rows: Tensor,
    targets: Tensor,
    validation: tuple[np.ndarray, np.ndarray],
    *,
    softmax: bool,
    seed: int,
    lr: float,
    weight_decay: float,
    epochs: int,
) -> Fit:
    """Train a linear layer on rows (n, D) towards targets (n, C) by full-batch Adam; validation: rows (m, D) and labels, m may be 0.

    The gradient is written out instead of traced: both losses have the derivative (answer - target) / terms in the logits.
    """
    layer = _initial(rows.shape[1], targets.shape[1], softmax, seed, rows.dtype)
    targets = targets.T.contiguous().T  # as the logits lie in memory
    optimiser = torch.optim.Adam([layer.weight, layer.bias], lr=lr, weight_decay=weight_decay, fused=True)
    held_out, truth = torch.from_numpy(validation[0]), validation[1]
    best, best_epoch, best_score = None, 0, -1.0
    for epoch in range(1, epochs + 1):
        layer.weight.grad, layer.bias.grad = gradient(layer, rows, targets)
        optimiser.step()
        if len(truth) and (score := measure(layer.predict(held_out), truth)) >= best_score:
            best, best_epoch, best_score = layer.copy(), epoch, score
    return Fit(layer, best, best_epoch)


def gradient(layer: Layer, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of the mean loss in weight (C, D) and bias (C,): cross-entropy averaged over rows, or binary cross-entropy over rows and answers."""
    logits = layer.logits(rows).T  # (C, n), as it lies in memory: a softmax over few classes is several times faster across rows
    answer, terms = (logits.softmax(0), len(targets)) if layer.softmax else (logits.sigmoid(), targets.numel())
    slope = (answer - targets.T).div_(terms)
    return slope @ rows, slope.sum(1)


def _initial(dim: int, classes: int, softmax: bool, seed: int, dtype: torch.dtype) -> Layer:
    """Uniform in +-1/sqrt(D), as torch.nn.Linear, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    bound = dim**-0.5
    weight = torch.empty(classes, dim, dtype=dtype).uniform_(-bound, bound, generator=generator)
    return Layer(weight, torch.empty(classes, dtype=dtype).uniform_(-bound, bound, generator=generator), softmax)


def _targets(labels: np.ndarray, classes: int) -> Tensor:
    """(n, C) float32: one-hot classes, or the answers as they are."""
    given = torch.from_numpy(labels)
    return (torch.nn.functional.one_hot(given, classes) if given.ndim == 1 else given).float()
