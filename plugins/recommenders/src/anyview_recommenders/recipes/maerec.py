"""MAERec: items come from a graph of which paths are hidden where items fit their surroundings, and hidden edges are found again.

Ye, Xia, Huang. Graph Masked Autoencoder for Sequential Recommendation. SIGIR 2023, arXiv 2305.04619.

Items that stood near each other in a sequence are neighbours. A graph convolution over what is shown of that graph makes the items that a
transformer reads and that its states score. Every so many steps items are drawn, those most like what surrounds them before others, and
paths that begin at them are hidden. From the rows of both ends a hidden edge has to be told from others. When items are drawn, that they
are like what surrounds them is learned too, and less where the loss of the next item no longer falls as it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from anyview.encoders.heads import mlp
from anyview.errors import UserError
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.item_graph import ItemGraph, near_in_sequences, with_loops
from anyview_recommenders.item_graph_encoders import GraphItemTransformer, TableEncoding, pooled
from anyview_recommenders.masked_graph import Seeds, hide_around
from anyview_recommenders.next_item import NextItem, Over
from anyview_recommenders.sequence_source import SequenceSource
from anyview_recommenders.sequence_views import NextItems
from anyview_recommenders.training import trained

LESSER = 0.2
"""The reward where the loss fell no faster than before."""


class MAERec(NextItem):
    """The next item by a masked graph of items, the edges that it hides, and how much items are like what surrounds them.

    dim: width of the encoder's rows. convolutions: L, layers of its graph. weight: of the hidden edges. seeds: how many items paths begin
    at. depth: steps of a path. share: of the items that a step reached, from which the path goes on, and of the edges that are looked
    along for what surrounds an item; its square in the step after, and so on. every: steps between two masks. edges: how many hidden edges
    a step looks for, at most. others: how many each is told from, half of them with its one end and half with its other. A mask follows
    from its seeds and a random seed; these and the losses since it was drawn are saved.

    Raises UserError for more seeds than there are items, for fewer than two others, and for seeds, depth, every or edges below 1.
    """

    needs = Needs(views=0, roles=("sequence",), targets=True, tokens=True, couples_rows=True)
    tags = ("ranking", "masked prediction")
    told: Tensor
    count: Tensor

    def __init__(
        self,
        dim: int,
        *,
        convolutions: int = 2,
        weight: float = 2.0,
        seeds: int = 50,
        depth: int = 3,
        share: float = 0.5,
        every: int = 100,
        edges: int = 2048,
        others: int = 40,
        over: Over = "all",
        negatives: int = 1000,
    ) -> None:
        super().__init__(dim, over=over, negatives=negatives)
        if min(seeds, depth, every, edges) < 1 or others < 2:
            found = f"{seeds}, {depth}, {every}, {edges} and {others}"
            raise UserError(f"masks need seeds, depth, every and edges of 1 or more, and others of 2; these are {found}; give more")
        self.weight, self.depth, self.share, self.edges, self.others = weight, depth, share, edges, others
        self.score = nn.Sequential(mlp(convolutions**2 * dim, dim, 1, norm=False), nn.Sigmoid())
        self.convolutions = convolutions
        self.seeds = Seeds(seeds, every, "items")
        self.register_buffer("told", torch.zeros(3))  # the first loss since the mask was drawn, the last but one, and the last
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.stays: Tensor | None = None
        self._losses: dict[int, Tensor] = {}

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.stays = None  # that of the seeds that were there before

    def forward(self, step: Step) -> Losses:
        encoder, terms = step.encoder, Losses()
        assert isinstance(encoder, GraphItemTransformer)
        if self.seeds.due(step):
            scores = item_relatedness(encoder.graph, encoder.table[1:-1], self.depth, self.share, step.generator)
            terms["relatedness"] = -self.reward() * scores.mean()
            self.seeds.draw(scores, step)
            self.count.zero_()
            self.stays = None
        stays, view = self.mask(encoder.graph), step.set.role("sequence")[0]
        encoding = step.encode(replace(view, data={**view.data, "weights": encoder.graph.weights * stays}))
        assert isinstance(encoding, TableEncoding)
        assert encoding.table is not None
        terms["next_item"] = self.loss(step, encoding, pooled(encoding.table))
        self._losses[id(step)] = terms["next_item"].detach()
        terms["edges"] = self.weight * self.edge_loss(encoding.table, *self.hidden(encoder.graph, stays, step.generator), step.generator)
        return terms

    def after_step(self, step: Step) -> None:
        if (loss := self._losses.pop(id(step), None)) is not None:
            first = torch.where(self.count == 0, loss, self.told[0])
            self.told.copy_(torch.stack([first, self.told[2], loss]))
            self.count += 1

    def reward(self) -> Tensor:
        """1 where the loss last fell by more than it did on average since the mask was drawn, or fell too seldom to tell; else 0.2."""
        first, before, last = self.told.unbind()
        average = (first - before) / (self.count - 2).clamp(min=1)
        return torch.where((self.count < 3) | (before - last > average), 1.0, LESSER)

    def mask(self, graph: ItemGraph) -> Tensor:
        """(T,) bool, the entries that are shown in these steps; an item always has itself."""
        if self.stays is None:
            ends, generator = (graph.pattern.rows, graph.pattern.columns), self.seeds.generator()
            stays, _ = hide_around(ends, len(graph), self.seeds.nodes, self.depth, share=self.share, generator=generator)
            self.stays = stays | graph.loops
        return self.stays

    def hidden(self, graph: ItemGraph, stays: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Both ends of hidden edges, (n,) and (n,), each edge once, and at most so many as a step looks for, drawn."""
        rows, columns = graph.pattern.rows, graph.pattern.columns
        found = (~stays & (rows < columns)).nonzero()[:, 0]
        found = found[torch.randperm(len(found), generator=generator, device=generator.device)[: self.edges]]
        return rows[found], columns[found]

    def edge_loss(self, table: Sequence[Tensor], one: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
        """-ln of the share that edges (n,) have of e^score among themselves and others, a mean; 0 where none is hidden."""
        half = self.others // 2
        drawn = torch.randint(len(table[0]), (2, len(one), half), generator=generator, device=one.device)
        ones = torch.cat([one[:, None].expand(-1, 1 + half), drawn[0]], 1)
        ends = torch.cat([other[:, None], drawn[1], other[:, None].expand(-1, half)], 1)
        layers = table[: self.convolutions]
        products = torch.cat([a[ones] * b[ends] for a in layers for b in layers], -1)
        scores = full(self.score(products)[..., 0])
        return (scores.logsumexp(1) - scores[:, 0]).sum() / max(1, len(one))


def item_relatedness(graph: ItemGraph, rows: Tensor, depth: int, share: float, generator: torch.Generator) -> Tensor:
    """The cosine of each item's row with the mean of those up to `depth` steps away, (I,) of (I, D), with gradient.

    Steps go along all edges at first, then along a share of them, then along its square, drawn. An item counts as often as there are ways
    to it. An item without neighbours has 0.
    """
    edges = torch.where(graph.loops, 0.0, 1.0).to(rows)
    reached, total = rows, torch.zeros_like(rows)
    for step in range(depth):
        kept = edges if step == 0 else edges * (torch.rand(len(edges), generator=generator, device=rows.device) < share**step)
        reached = graph.pattern(kept, reached)
        total = total + reached
    return cosine_similarity(total, rows, dim=1)  # the cosine of a sum is that of the mean


PRESETS: Presets = {
    "generated-walks": {
        **{"length": 20, "convolutions": 1, "weight": 0.1, "seeds": 2, "depth": 1, "remask": 10, "edges": 128},
        **{"lr": 5e-3, "epochs": 60, "look_every": 2},
    },
    "amazon-beauty": {"dropout": 0.5, "edges": 512, "over": "some", "epochs": 60, "look_every": 2, "patience": 4},
    "grid": {"data": "generated-walks", "dim": 16, "seeds": 2, "depth": 1, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(3e-4, 5e-3),
    "dropout": Uniform(0.1, 0.6),
    "convolutions": Integers(1, 3),
    "weight": LogUniform(1e-2, 2.0),
    "seeds": Integers(2, 200, log=True),
    "depth": Integers(1, 3),
}


@recipe(presets=PRESETS, views=NextItems, ranges=RANGES)
def maerec(
    data: str = "amazon-beauty",
    *,
    reading: Reading = None,
    dim: int = 64,
    length: int = 50,
    distance: int = 3,
    convolutions: int = 2,
    layers: int = 2,
    heads: int = 4,
    dropout: float = 0.3,
    weight: float = 2.0,
    seeds: int = 50,
    depth: int = 3,
    share: float = 0.5,
    remask: int = 100,
    edges: int = 2048,
    others: int = 40,
    over: Over = "all",
    negatives: int = 1000,
    epochs: int = 200,
    batch_size: int = 256,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """MAERec: the next item by a graph of items whose hidden paths are found again (Ye et al., 2023, arXiv 2305.04619).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        length: the most recent items that are read
        distance: places between two items of a sequence that are neighbours, at most
        convolutions: layers of the graph convolution
        layers: blocks of the transformer
        heads: of its attention
        dropout: share of embeddings, and of what blocks add, that is left out in training
        weight: of finding hidden edges
        seeds: items that hidden paths begin at
        depth: steps of a hidden path
        share: of the items that a step reached, from which the path goes on
        remask: steps between two masks
        edges: hidden edges that a step looks for, at most
        others: edges that each is told from
        over: whether an item is told from all others, from some that are drawn, or from one
        negatives: how many are drawn
        epochs: passes over the users, at most
        batch_size: users per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = SequenceSource.of(open_interactions(data, **(reading or {})), length)
    catalogue = Catalogue.of(source)
    assert catalogue.histories is not None
    near = near_in_sequences(catalogue.histories.until("train"), catalogue.items, distance)
    network = GraphItemTransformer(
        with_loops(near.sign()), dim, convolutions=convolutions, length=length, depth=layers, heads=heads, drop=dropout
    )
    objective = MAERec(
        dim,
        convolutions=convolutions,
        weight=weight,
        seeds=seeds,
        depth=depth,
        share=share,
        every=remask,
        edges=edges,
        others=others,
        over=over,
        negatives=negatives,
    )
    return trained(source, network, [Task(NextItems(), objective)], epochs, batch_size, lr, look_every, patience)
