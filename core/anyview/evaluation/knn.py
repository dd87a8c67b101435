"""k nearest neighbours on the sphere, weighted by similarity (Wu et al., 2018, arXiv 1805.01978) or by plain majority."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anyview.evaluation.limits import Limits
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData


@protocol(headline="accuracy", facts=("k",), classifies=True, limits={"k": Limits(at_least=1), "temperature": Limits(above=0)})
def knn(
    data: ProtocolData,
    seed: int,  # noqa: ARG001  neighbours are not drawn; the split may be
    *,
    k: int | None = None,
    temperature: float = 0.1,
    weighted: bool = True,
) -> Scores:
    """Test scores of the neighbours' vote; the bank is the training part, the validation part is not used.

    k: neighbours; None = 200, or 20 where the bank has fewer than 5000 rows; never more than the bank. temperature: a neighbour's vote
    weighs exp(cosine / temperature). weighted: False = each vote weighs 1. Returns the k that was used beside the accuracy.
    """
    bank, labels = data.part("train")
    used = neighbours(k, len(bank))
    predicted = vote(
        torch.from_numpy(data.part("test")[0]),
        torch.from_numpy(bank),
        torch.from_numpy(labels),
        data.classes,
        k=used,
        temperature=temperature if weighted else None,
    )
    return {**data.scores(predicted), "k": float(used)}


def neighbours(k: int | None, bank: int) -> int:
    """The number of neighbours for a bank of that many rows.

    >>> neighbours(None, 140), neighbours(None, 60_000), neighbours(50, 30)
    (20, 200, 30)
    """
    return min(bank, k if k is not None else 20 if bank < 5000 else 200)


def vote(
    rows: Tensor, bank: Tensor, labels: Tensor, classes: int, *, k: int, temperature: float | None, chunk_elements: int = 2**24
) -> np.ndarray:
    """Classes (n,) of rows (n, D) by the k nearest of bank (m, D) with labels (m,); ties go to the lower class.

    temperature: None = plain majority. chunk_elements: similarities held at once.

    >>> bank, labels = torch.eye(3), torch.tensor([0, 1, 1])
    >>> vote(torch.eye(3), bank, labels, 2, k=1, temperature=0.1)
    array([0, 1, 1])
    """
    bank = torch.nn.functional.normalize(bank, dim=1)
    predicted = []
    for chunk in torch.nn.functional.normalize(rows, dim=1).split(max(1, chunk_elements // len(bank))):
        cosine, index = (chunk @ bank.T).topk(k, dim=1)
        # relative to the nearest, or small temperatures overflow; sorted, so that equal sets of votes have equal sums
        weights = torch.ones_like(cosine) if temperature is None else ((cosine - cosine[:, :1]) / temperature).exp()
        votes = weights.new_zeros(len(chunk), classes).scatter_add_(1, labels[index], weights)
        predicted.append(votes.argmax(1))
    return torch.cat(predicted).numpy()
