"""Views of a batch of interactions where users did several things: an item of each behaviour, and one that they did not do it with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.data.source import Batch
from anyview.distributed import gather_rows
from anyview.objectives.objective import Step
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet
from anyview_recommenders.sampling import Seen, Unseen


class BehaviourTriples(ViewMaker):
    """For each interaction its user, and for each of K behaviours an item of the user's and one drawn from those that are not.

    behaviours: (U, I) CSR of ones of each by name, the target, which batches are of, last. The view of role "behaviours" has "users" (b,),
    "positives" and "negatives" (b, K), nodes all of them, and "there" (b, K) bool, whether the user did it with some items and not with
    all; elsewhere the nodes mean nothing. Of the target the positive is the batch's item, of others it is drawn.

    meta: where it is above 0, a view of role "meta" has "nodes" (3 meta,), triples of the target as `Triples` shows them, of users drawn
    from those with most behaviours; all ranks are shown the same.

    >>> shop = {"view": csr_matrix(np.array([[1.0, 1.0]])), "buy": csr_matrix(np.array([[0.0, 1.0]]))}
    >>> shown = BehaviourTriples(shop)(Batch({"user": torch.tensor([0]), "item": torch.tensor([1])}, rows=1), Draws.seeded(0, total=1))
    >>> {name: part.tolist() for name, part in shown.views[0].data.items() if name != "positives"}
    {'users': [0], 'negatives': [[1, 1]], 'there': [[False, True]]}
    """

    def __init__(self, behaviours: Mapping[str, csr_matrix], *, meta: int = 0) -> None:
        matrices = list(behaviours.values())
        self.users, self.meta = matrices[-1].shape[0], meta
        self.gives = Gives(views=0, roles=("behaviours", "meta") if meta else ("behaviours",), data="nodes")
        self.seen, self.unseen = [Seen.of(own) for own in matrices], [Unseen.of(own) for own in matrices]
        self.thorough = torch.from_numpy(most_behaviours(matrices))

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        user, device = batch.data["user"], batch.data["user"].device
        self.seen, self.unseen = [own.to(device) for own in self.seen], [own.to(device) for own in self.unseen]
        self.thorough = self.thorough.to(device)
        shares = draws.uniform(2, len(self.seen)).unbind(1)
        positives = [own.pick(user, share) for own, share in zip(self.seen[:-1], shares[0].T, strict=False)]
        negatives = [own.pick(user, share).clamp(min=0) for own, share in zip(self.unseen, shares[1].T, strict=True)]
        there = [(seen.counts(user) > 0) & (unseen.counts(user) > 0) for seen, unseen in zip(self.seen, self.unseen, strict=True)]
        data = {
            "users": user,
            "positives": self.users + torch.stack([*positives, batch.data["item"]], 1),
            "negatives": self.users + torch.stack(negatives, 1),
            "there": torch.stack(there, 1),
        }
        views = [View(data, role="behaviours", index=user)]
        return ViewSet([*views, self._meta_view(draws)] if self.meta else views)

    def _meta_view(self, draws: Draws) -> View:
        user = self.thorough[(draws.shared_uniform(self.meta) * len(self.thorough)).long().clamp(max=len(self.thorough) - 1)]
        item = self.seen[-1].pick(user, draws.shared_uniform(self.meta))
        other = self.unseen[-1].pick(user, draws.shared_uniform(self.meta))
        return View({"nodes": torch.cat([user, self.users + item, self.users + other])}, role="meta")


def most_behaviours(matrices: list[csr_matrix]) -> np.ndarray:
    """Users who did the last of some behaviours, not with every item, and most of the others, (n,) positions.

    >>> most_behaviours([csr_matrix(np.array([[1.0, 0.0], [0.0, 0.0]])), csr_matrix(np.eye(2))]).tolist()
    [0]
    """
    counts = np.stack([np.diff(own.indptr) for own in matrices], 1)
    done = (counts > 0).sum(1) * (counts[:, -1] > 0) * (counts[:, -1] < matrices[-1].shape[1])
    return np.flatnonzero(done == done.max())


@dataclass(frozen=True, slots=True)
class BehaviourBatch:
    """A batch of all ranks as `BehaviourTriples` shows it: users (B,), positives, negatives, there (B, K)."""

    users: Tensor
    positives: Tensor
    negatives: Tensor
    there: Tensor

    @classmethod
    def of(cls, step: Step) -> BehaviourBatch:
        """That of a step; every rank has all of it."""
        shown = step.set.role("behaviours")[0].data
        whole = gather_rows(torch.cat([shown["users"][:, None], *(shown[name] for name in ("positives", "negatives", "there"))], 1))
        users, *others = whole.split([1, *[shown["there"].shape[1]] * 3], 1)
        positives, negatives, there = others
        return cls(users.flatten(), positives, negatives, there.bool())

    @property
    def target(self) -> tuple[Tensor, Tensor, Tensor]:
        """The target's triples: users, their items and others, (B',) each, of those who have not all items."""
        there = self.there[:, -1]
        return self.users[there], self.positives[there, -1], self.negatives[there, -1]

    def shares(self, auxiliary: float) -> Tensor:
        """What losses of each behaviour (K,) are multiplied by for the sum of their means, those of others than the target weighted."""
        counts = self.there.sum(0).clamp(min=1)
        last = len(counts) - 1
        return torch.where(torch.arange(len(counts), device=counts.device) < last, auxiliary, 1.0).to(torch.get_default_dtype()) / counts
