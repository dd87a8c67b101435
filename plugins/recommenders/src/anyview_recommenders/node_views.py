"""Two views of a batch's users and items, and any objective of two views between them, for users and for items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.data.source import Batch, Epoch
from anyview.distributed import gather_rows, rank, ranks
from anyview.encoders.encoder import Encoder
from anyview.encoders.moving_average import MovingAverage
from anyview.objectives.objective import Losses, Objective, Step
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet
from anyview_recommenders.batch_nodes import parts
from anyview_recommenders.graph_convolution import check_rate, drop, normalised_adjacency
from anyview_recommenders.noise import noisy

Corruption = Literal["noise", "edge", "node", "walk"]


class NodePair(ViewMaker):
    """Two views of a batch's users and items, each node once: both noisy, or each on a graph that has lost some of its edges.

    matrix: (U, I) CSR of the training interactions. corruption: "noise" after each layer, or what is dropped anew for each view: "edge",
    "node", or "walk", edges of each layer for itself. amount: length of the noise, or the share that is dropped. layers: of the encoder.

    A view's data has "nodes" (M,), users before items, and "users", how many of them are users; its index are the nodes. Of several ranks
    each shows its share of the nodes of the whole batch. Raises UserError for a share outside [0, 1) and for noise below 0.
    """

    gives = Gives(views=2, data="nodes")

    def __init__(self, matrix: csr_matrix, corruption: Corruption = "noise", amount: float = 0.1, *, layers: int = 3) -> None:
        self.users, self.corruption, self.layers = matrix.shape[0], corruption, layers
        self.amount = amount if corruption == "noise" else check_rate("amount", amount)
        self.adjacency = None if corruption == "noise" else normalised_adjacency(matrix)

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        users, items = (_share(gather_rows(batch.data[side]).unique()) for side in ("user", "item"))
        nodes = torch.cat([users, self.users + items])
        shown = {"nodes": nodes, "users": len(users)}
        return ViewSet([View({**shown, **self._corrupted(draws, number)}, index=nodes) for number in range(2)])

    def _corrupted(self, draws: Draws, number: int) -> dict[str, Any]:
        if self.corruption == "noise" or self.adjacency is None:
            return noisy(draws, self.amount, number)
        if self.adjacency.starts.device != draws.device:
            self.adjacency = self.adjacency.to(draws.device)  # once
        return {"adjacency": drop(self.corruption, self.adjacency, self.amount, draws.generator, self.layers)}


class BothSides(Objective):
    """Any objective of two views twice, between the users of `NodePair`'s views and between their items, each with heads of its own.

    make: makes one. Terms and monitors of the two are summed. Each view is encoded once for both.
    """

    def __init__(self, make: Callable[[], Objective]) -> None:
        super().__init__()
        self.of_users, self.of_items = make(), make()
        self.needs, self.tags, self.momentum = self.of_users.needs, self.of_users.tags, self.of_users.momentum
        self.evaluated = self.of_users.evaluated
        self._shown: dict[int, tuple[Step, list[Step]]] = {}

    def prepare(self, views: ViewSet, samples: int) -> None:
        for objective, side in zip(self._each, _sides(views), strict=True):
            objective.prepare(side, samples)

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        for number, objective in enumerate(self._each):
            objective.before_epoch(epoch, lambda number=number: (_steps(step)[number] for step in look()))  # type: ignore[misc]

    def forward(self, step: Step) -> Losses:
        losses, steps = Losses(), _steps(step)
        self._shown = {id(step): (step, steps), **(self._shown if self.training else {})}  # objectives know a step again by what it is
        for objective, part in zip(self._each, steps, strict=True):
            found = objective(part)
            for name, term in found.items():
                losses[name] = losses[name] + term if name in losses else term
            for name, value in found.monitors.items():
                losses.monitors[name] = losses.monitors.get(name, 0.0) + value
        return losses

    def after_step(self, step: Step) -> None:
        _, steps = self._shown.pop(id(step))
        for objective, part in zip(self._each, steps, strict=True):
            objective.after_step(part)

    def make_teacher(self, encoder: Encoder) -> MovingAverage:
        return self.of_users.make_teacher(encoder)

    @property
    def _each(self) -> tuple[Objective, Objective]:
        return self.of_users, self.of_items


def _share(nodes: Tensor) -> Tensor:
    """This rank's consecutive share of the nodes."""
    return nodes[Epoch(rank=rank(), ranks=ranks()).own(len(nodes))]


def _sides(views: ViewSet) -> tuple[ViewSet, ViewSet]:
    """The views of users alone and those of items alone."""
    sides: tuple[list[View], list[View]] = ([], [])
    for view in views.views:
        nodes, users = view.data["nodes"], view.data["users"]
        for side, own in zip(sides, (nodes[:users], nodes[users:]), strict=True):
            side.append(replace(view, data={**view.data, "nodes": own}, index=own))
    return ViewSet(sides[0]), ViewSet(sides[1])


def _steps(step: Step) -> list[Step]:
    """The step of users alone and that of items alone, with the student's encodings cut from those of both."""
    sides = _sides(step.set)
    made = [replace(step, set=side, memo={}) for side in sides]
    for number, view in enumerate(step.views):
        users = view.data["users"]
        cut = parts(step.encode(view), [users, len(view.data["nodes"]) - users])
        for part, side, encoding in zip(made, sides, cut, strict=True):
            part.memo[id(side.views[number]), id(step.encoder)] = (side.views[number], encoding)
    return made
