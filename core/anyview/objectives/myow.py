"""MYOW: predict the other view of a sample, and in a second space the representation of a sample that lies near.

Azabou, Azar, Liu, Lin, Johnson, Bhaskaran-Nair, Dabagia, Avila-Pires, Kitchell, Hengen, Gray, Valko, Dyer. Mine Your Own vieW:
Self-Supervised Learning Through Across-Sample Prediction. 2021, arXiv 2102.10106.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from anyview.distributed import any_rank, gather_rows, rank
from anyview.encoders.encoder import Encoder
from anyview.encoders.heads import mlp, predictor
from anyview.encoders.moving_average import MovingAverage
from anyview.errors import UserError
from anyview.objectives.byol import byol_loss
from anyview.objectives.contrast import unit
from anyview.objectives.gram import full_products
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.schedules import Cosine, Ramp
from anyview.views.view import View


@torch.no_grad()
def mined(queries: Tensor, candidates: Tensor, allowed: Tensor, neighbours: int, numbers: Tensor) -> Tensor:
    """(M,) for each query one of its nearest candidates by cosine, each of them as likely.

    queries: (M, D). candidates: (L, D). allowed: (M, L) bool, the candidates that a query may be given, at least one for each.
    neighbours: how many of the nearest are chosen from, fewer where fewer are allowed. numbers: (M,) from [0, 1), which decide.

    >>> rows = torch.eye(3)
    >>> mined(rows, rows.flip(0), torch.ones(3, 3, dtype=torch.bool), 1, torch.zeros(3))
    tensor([2, 1, 0])
    """
    with full_products(queries.device):
        similarity = unit(queries) @ unit(candidates).T
    nearest = similarity.masked_fill_(~allowed, -torch.inf).topk(min(neighbours, len(candidates)), dim=1).indices
    choices = allowed.sum(1).clamp(max=nearest.shape[1])
    choice = torch.minimum((numbers * choices).long(), choices - 1)
    return nearest.gather(1, choice[:, None])[:, 0]


class MYOW(Objective):
    """Objective over two views and a teacher; owns two projectors in a row, a predictor on each, and the projectors' moving averages.

    BYOL's loss on the first projector (the student sees the first view; symmetric: the mean of both orders), and the same loss on the
    second between a view and a mined neighbour of it, weighted 1 : w and divided by 1 + w. While w is 0 nothing is mined, and the loss is
    BYOL's. Mined for is the step's extra view "queries" where there is one, else a third view that is seen whole, else the first.
    Candidates are the step's extra view "candidates", shown to the teacher, else the teacher's rows of the second view; never the sample
    itself.

    dim: width of the encoder's rows. hidden, width: of the first projector, hidden of its predictor. second_hidden, second_width: of the
    second's. neighbours: how many nearest candidates one is drawn from. weight, begin, end: w is 0 until the share `begin` of the stage,
    then rises to `weight` at `end`. groups: names of the group ids (trial, subject) that a sample and its candidates must not have in
    common; by default all that the view and an extra view "candidates" both carry. momentum, final_momentum: the teachers', along half a
    cosine; parameters alone are averaged, batch norm follows the teachers' own passes. Defaults are the paper's for neural recordings;
    images take 4 neighbours and a momentum of 0.98.

    Monitors: "mined_weight", w; "mined_similarity", the mean cosine of a view's row and the teacher's row that was mined for it.
    """

    needs = Needs(views=2, teacher=True)
    tags = ("distillation", "joint-embedding prediction")

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 256,
        width: int = 32,
        second_hidden: int = 64,
        second_width: int = 16,
        neighbours: int = 3,
        weight: float = 0.1,
        begin: float = 0.01,
        end: float = 0.11,
        groups: tuple[str, ...] | None = None,
        symmetric: bool = False,
        momentum: float = 0.9,
        final_momentum: float = 1.0,
    ) -> None:
        super().__init__()
        self.momentum, self.weight = Cosine(momentum, final_momentum), Ramp(weight, begin, end)
        self.neighbours, self.groups, self.symmetric = neighbours, groups, symmetric
        self.project, self.second_project = mlp(dim, hidden, width), mlp(width, second_hidden, second_width)
        self.predict, self.second_predict = predictor(width, hidden), predictor(second_width, second_hidden)
        self.teacher_project = MovingAverage(self.project, self.momentum, buffers="own")
        self.teacher_second_project = MovingAverage(self.second_project, self.momentum, buffers="own")

    def make_teacher(self, encoder: Encoder) -> MovingAverage:
        return MovingAverage(encoder, self.momentum, buffers="own")

    def forward(self, step: Step) -> Losses:
        views, weight = step.seen_whole, self.weight(step.number, step.steps)
        seen = [self.project(step.encode(view).rows) for view in views[: 2 if self.symmetric else 1]]
        augmented = self._augmented(step, seen)
        if weight == 0:
            return Losses(augmented=augmented + self._idle(), monitors={"mined_weight": 0.0})
        query = step.extras.get("queries", views[2] if len(views) > 2 else views[0])
        projected = seen[0] if query is views[0] else self.project(step.encode(query).rows)
        neighbours = self._neighbours(step, query)
        mined = weight * self._across_samples(projected, neighbours) / (1 + weight)
        similarity = gather_rows(cosine_similarity(step.encode(query).rows.detach(), neighbours)).mean()
        monitors: dict[str, float | Tensor] = {"mined_weight": weight, "mined_similarity": similarity}
        return Losses(augmented=augmented / (1 + weight), mined=mined, monitors=monitors)

    def _augmented(self, step: Step, seen: list[Tensor]) -> Tensor:
        """BYOL's loss; seen: the student's projections of the first view, or of both."""
        guessed = (step.seen_whole[1], step.seen_whole[0])[: len(seen)]
        predictions = [gather_rows(self.predict(rows)) for rows in seen]
        targets = [gather_rows(self.teacher_project(step.encode(view, teacher=True).rows)) for view in guessed]
        return torch.stack([byol_loss(ours, theirs) for ours, theirs in zip(predictions, targets, strict=True)]).mean()

    def _across_samples(self, projected: Tensor, neighbours: Tensor) -> Tensor:
        """The same loss in the second space; neighbours: (M, dim), the teacher's rows that were mined for the rows of `projected`."""
        prediction = self.second_predict(self.second_project(projected))
        target = self.teacher_second_project(self.teacher_project(neighbours))
        return byol_loss(gather_rows(prediction), gather_rows(target))

    def _idle(self) -> Tensor:
        """Zero, by way of the second space's heads: several ranks wait for the gradients of all parameters."""
        heads = [*self.second_project.parameters(), *self.second_predict.parameters()]
        return 0.0 * torch.stack([parameter.sum() for parameter in heads]).sum()

    def _neighbours(self, step: Step, query: View) -> Tensor:
        """The teacher's row of a neighbour of each of this rank's rows of a view, (M, dim)."""
        rows, pool = step.encode(query).rows.detach(), step.extras.get("candidates")
        other = step.seen_whole[1] if pool is None else pool
        candidates = gather_rows(step.encode(other, teacher=True).rows)
        places, total = _places(rows)
        allowed = torch.ones(len(rows), len(candidates), dtype=torch.bool, device=rows.device)
        pairs = _ids_in_batch(query, other, places, total) if pool is None else _ids_in_pool(query, other)
        for ours, theirs in pairs + self._group_ids(query, other, pool is not None):
            allowed &= ours[:, None] != theirs
        if any_rank(bool((~allowed).all(1).any()), rows.device):
            asked = "MYOW mines a neighbour for every row, and some rows have no candidate of another sample and group"
            raise UserError(f"{asked}; make the batch larger, or give candidates of other groups")
        numbers = torch.rand(total, generator=step.generator, device=step.draws.device).to(rows.device)
        return candidates[mined(rows, candidates, allowed, self.neighbours, numbers[places])]

    def _group_ids(self, query: View, other: View, pool: bool) -> list[tuple[Tensor, Tensor]]:
        """Ids of this rank's samples and of all ranks' candidates, group by group."""
        ours, theirs = query.groups or {}, other.groups or {}
        names = self.groups if self.groups is not None else sorted(ours.keys() & theirs.keys()) if pool else ()
        for name in names:
            if name not in ours or name not in theirs:
                asked = f"MYOW was asked to mine no candidate of a sample's own {name!r}, and views or candidates have no such group ids"
                raise UserError(f"{asked}; there are {sorted(ours)} and {sorted(theirs)}")
        return [(ours[name], gather_rows(theirs[name])) for name in names]


def _ids_in_pool(query: View, pool: View) -> list[tuple[Tensor, Tensor]]:
    """The same by sample, where both say which they show."""
    return [] if query.index is None or pool.index is None else [(query.index, gather_rows(pool.index))]


def _ids_in_batch(query: View, other: View, places: Tensor, total: int) -> list[tuple[Tensor, Tensor]]:
    """The same for candidates of the batch itself: by place, and by sample where every row has an id."""
    pairs = [(places, torch.arange(total, device=places.device))]
    if query.index is not None and other.index is not None:
        ours, theirs = gather_rows(query.index), gather_rows(other.index)
        if len(ours) == len(theirs) == total:
            pairs.append((ours[places], theirs))
    return pairs


def _places(rows: Tensor) -> tuple[Tensor, int]:
    """Where this rank's rows stand among all ranks' rows, (M,), and how many those are."""
    counts = gather_rows(torch.tensor([len(rows)], device=rows.device))
    return int(counts[: rank()].sum()) + torch.arange(len(rows), device=rows.device), int(counts.sum())
