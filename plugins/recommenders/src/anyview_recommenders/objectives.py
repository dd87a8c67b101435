"""BPR: what a user has ranks above what the user does not have, and embeddings stay short.

Rendle, Freudenthaler, Gantner, Schmidt-Thieme. BPR: Bayesian Personalized Ranking from Implicit Feedback. UAI 2009, arXiv 1205.2618.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.encoder import Encoding
from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview_recommenders.losses import bpr_loss, squared_length


class BPR(Objective):
    """Bayesian personalised ranking: a user's item above one that the user does not have, and short embeddings.

    l2: weight of half the squared lengths of the batch's embeddings, over the batch. It reads a view of role "triples", whose rows are b
    users, their items and others, and of the encoding's layers the first, the embeddings before any convolution.
    Raises UserError for a negative l2.
    """

    needs = Needs(views=0, roles=("triples",))
    tags: tuple[str, ...] = ("ranking",)

    def __init__(self, dim: int, *, l2: float = 1e-4) -> None:
        super().__init__()
        if l2 < 0:
            raise UserError(f"the weight of the embeddings' lengths is 0 or more, and l2 is {l2:g}")
        self.l2 = l2

    def forward(self, step: Step) -> Losses:
        return ranked(step.encode(step.set.role("triples")[0]), self.l2)


def ranked(encoding: Encoding, l2: float, *, others: bool = True) -> Losses:
    """BPR of an encoding of triples, and `l2` times half the squared lengths of its embeddings; others: those of negatives too."""
    terms = Losses(bpr=bpr_loss(*triples(encoding.rows)))
    if l2:
        terms["l2"] = l2 * squared_length(*triples(embeddings(encoding))[: 3 if others else 2])
    return terms


def triples(rows: Tensor) -> tuple[Tensor, ...]:
    """Users, items and others, (B, D) each of all ranks, from this rank's rows (3 b, D)."""
    return gather_rows(torch.stack(rows.chunk(3), 1)).unbind(1)


def embeddings(encoding: Encoding) -> Tensor:
    """The rows before any convolution, of an encoding that has layers."""
    assert encoding.layers is not None
    return encoding.layers[0]
