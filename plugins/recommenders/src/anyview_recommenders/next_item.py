"""Next items: at each place of a sequence, or at each that is hidden, the item that belongs there scores above all others.

The softmax over all items, as in BERT4Rec (Sun et al., CIKM 2019, arXiv 1904.06690); over some that are drawn; or SASRec's own binary
cross-entropy with one other item (Kang, McAuley, ICDM 2018, arXiv 1808.09781).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import softplus

from anyview.encoders.encoder import Encoding
from anyview.errors import UserError, unknown
from anyview.objectives.contrast import products
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.tokens import mean_of_all
from anyview_recommenders.losses import product_losses
from anyview_recommenders.sequence_encoders import ItemTransformer

Over = Literal["all", "some", "one"]


def sampled_losses(states: Tensor, items: Tensor, own: Tensor, drawn: Tensor) -> Tensor:
    """Cross-entropy of an item among itself and drawn ones, (M,), each of which stands for (I - 1) / n others.

    states: (M, D). items: (I, D). own: (M,) int64, the item that belongs to each state. drawn: (n,) int64, uniform draws that all states
    share; a state's own item among them does not count. Equal products give log I, as the softmax over all items does, or nearly so.

    >>> round(float(sampled_losses(torch.zeros(1, 2), torch.ones(9, 2), torch.tensor([0]), torch.tensor([1, 4])).exp()), 3)
    9.0
    """
    states, items = full(states), full(items)
    with_own = (states * items[own]).sum(1, keepdim=True)
    weight = math.log((len(items) - 1) / len(drawn)) if len(items) > 1 else 0.0
    others = products(states, items[drawn]) + weight
    others = others.masked_fill(own[:, None] == drawn, -torch.inf)
    return torch.cat([with_own, others], 1).logsumexp(1) - with_own[:, 0]


def binary_losses(states: Tensor, items: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """-log σ(s·own) - log(1 - σ(s·other)), (M,): states (M, D), items (I, D), own and other (M,) int64.

    >>> round(float(binary_losses(torch.zeros(1, 2), torch.ones(3, 2), torch.tensor([0]), torch.tensor([1])).exp()), 3)
    4.0
    """
    states, items = full(states), full(items)
    return softplus(-(states * items[own]).sum(1)) + softplus((states * items[other]).sum(1))


class NextItem(Objective):
    """Cross-entropy of the items that a view of sequences has as its target, a mean over them.

    dim: width of the encoder's rows. over: "all" items, exact, in memory that is bounded; "some", as many as `negatives`, drawn uniformly
    for all sequences of a step; or SASRec's binary cross-entropy with "one" other for each place. It reads a view of role "sequence" whose
    target (b, L) holds items as sequences do, 0 where none is asked for. Raises UserError for fewer than one negative.
    """

    needs = Needs(views=0, roles=("sequence",), targets=True, tokens=True)
    tags: tuple[str, ...] = ("ranking",)

    def __init__(self, dim: int, *, over: Over = "all", negatives: int = 1000) -> None:
        super().__init__()
        if over not in get_args(Over):
            raise unknown("candidates of a softmax", over, get_args(Over), look=", ".join(get_args(Over)))
        if negatives < 1:
            raise UserError(f"a softmax over some items needs at least 1 other, and negatives is {negatives}; try 1000")
        self.over, self.negatives = over, negatives

    def forward(self, step: Step) -> Losses:
        view, encoder = step.set.role("sequence")[0], step.encoder
        assert isinstance(encoder, ItemTransformer)
        return Losses(next_item=self.loss(step, step.encode(view), encoder.item_rows()))

    def loss(self, step: Step, encoding: Encoding, items: Tensor) -> Tensor:
        """The mean over all that is asked for, of an encoding of the step's sequences and rows of all items (I, D)."""
        target, states = step.set.role("sequence")[0].target, encoding.tokens
        assert states is not None
        asked = target != 0
        return mean_of_all(self.losses(step, states[asked], items, target[asked] - 1, asked))

    def losses(self, step: Step, states: Tensor, items: Tensor, own: Tensor, asked: Tensor) -> Tensor:
        """(M,), for the M states at places that are asked for, a mask (b, L)."""
        if self.over == "all":
            return product_losses(states, items, own)
        if self.over == "some":
            drawn = torch.randint(len(items), (self.negatives,), generator=step.generator, device=step.draws.device)
            return sampled_losses(states, items, own, drawn)
        other = step.draws.integers(max(1, len(items) - 1), asked.shape[1])[asked]
        return binary_losses(states, items, own, other + (other >= own))
