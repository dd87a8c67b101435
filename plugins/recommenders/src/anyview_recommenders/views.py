"""Views of a batch of interactions: its users, their items, and items that they do not have."""

from __future__ import annotations

import torch
from scipy.sparse import csr_matrix

from anyview.data.source import Batch
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet
from anyview_recommenders.sampling import Unseen


class Triples(ViewMaker):
    """For each interaction its user, its item and an item drawn uniformly from those that the user does not have: one view of 3 b nodes.

    matrix: (U, I) CSR of the training interactions. The view's data has "nodes" (3 b,): b users, their items, the others, numbered as
    the encoders of this plugin do (users first, then items); its index are the same. No user of a batch may have every item.

    >>> batch = Batch({"user": torch.tensor([0]), "item": torch.tensor([1])}, rows=1)
    >>> Triples(csr_matrix(np.array([[0.0, 1.0]])))(batch, Draws.seeded(0, total=1)).views[0].data["nodes"].tolist()
    [0, 2, 1]
    """

    gives = Gives(views=0, roles=("triples",), data="nodes")

    def __init__(self, matrix: csr_matrix) -> None:
        self.users = matrix.shape[0]
        self.unseen = Unseen.of(matrix)

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        user, item = batch.data["user"], batch.data["item"]
        self.unseen = self.unseen.to(user.device)  # once
        other = self.unseen.pick(user, draws.uniform())
        nodes = torch.cat([user, self.users + item, self.users + other])
        return ViewSet([View({"nodes": nodes}, role="triples", index=nodes)])
