"""GFormer: the edges that a graph transformer attends to most are rationales, and recommending has to go by them alone as well.

Li, Xia, Ren, Ye, Xu, Huang. Graph Transformer for Recommendation. SIGIR 2023, arXiv 2306.02330.

Every few steps each edge of the graph, and some new ones, is scored by the transformer's attention between embeddings that know where they
are, seen from anchors which are drawn anew each epoch. An encoder sees most edges, those of large scores less often than others; a decoder
attends along these and along random pairs of what was hidden; two more graphs have a tenth of the edges each, the rationale those of large
scores, its complement those of small ones. The rows of all that are learned by a softmax over all items, which keeps rows short as well, as
in AutoCF (Xia et al., WWW 2023, arXiv 2303.07797); those of the rationale by ranking, and by differing from those of the complement.

The authors' code mixes positions with embeddings by two linear layers, one for scores, which nothing trains, and one for rows, in training
alone. Here they are added, for scores alone: rows that have them in training and not when they recommend rank worse
(docs/results/recommenders.md). Scores draw graphs and have no gradient, so the transformer learns from what it makes of them. A run
recommends by the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.views.draws import derive_seed
from anyview.views.view import View
from anyview_recommenders.batch_nodes import unique_nodes
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.graph_transformer import LoopedGraph, TransformerConvolution, closeness, placed
from anyview_recommenders.losses import bpr_loss, item_softmax, log_partition
from anyview_recommenders.objectives import triples
from anyview_recommenders.rationale_graphs import RationaleGraphs, candidates, draw, most_candidates
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


class GFormer(Objective):
    """A softmax over all items on masked graphs, BPR on the rationale, and rationale and complement apart.

    dim: width of the encoder's rows. matrix: (U, I) CSR of the training interactions. anchors: how many nodes positions are seen from.
    redraw: steps between two drawings of the graphs. keep: share of the edges that the encoder sees. share: that of rationale and
    complement. partition: weight of users' and items' log-partitions among their like. rationale: weight of BPR. independence: weight of
    rationale and complement. l2: weight of the squares of all weights.

    Anchors, the seed and the scores of the last drawing are saved; the graphs follow from them. Raises UserError for shares that are none.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("masked prediction",)
    anchors: Tensor
    seed: Tensor
    scores: Tensor

    def __init__(
        self,
        dim: int,
        matrix: csr_matrix,
        *,
        anchors: int = 64,
        redraw: int = 10,
        keep: float = 0.9,
        share: float = 0.1,
        partition: float = 1.0,
        rationale: float = 1.0,
        independence: float = 1e-3,
        l2: float = 1e-6,
    ) -> None:
        super().__init__()
        for name, value, usual in (("keep", keep, 0.9), ("share", share, 0.1)):
            if not 0 < value <= 1:
                raise UserError(f"{name} is a share of the edges, above 0 and at most 1, and {value:g} was given; try {usual}")
        self.redraw, self.keep, self.share = redraw, keep, share
        self.partition, self.rationale, self.independence, self.l2 = partition, rationale, independence, l2
        nodes = sum(matrix.shape)
        self.register_buffer("anchors", torch.zeros(min(anchors, nodes), dtype=torch.long))
        self.register_buffer("seed", torch.zeros((), dtype=torch.long))
        self.register_buffer("scores", torch.zeros(most_candidates(matrix.nnz, nodes)))
        self.drawn: RationaleGraphs | None = None

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.drawn = None  # those of the scores that were there before

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        encoder = next(look()).encoder
        assert isinstance(encoder, TransformerConvolution)
        self.anchors.copy_(torch.randperm(len(encoder.embedding))[: len(self.anchors)])
        if epoch == 0:
            self.score(encoder, int(torch.randint(2**62, ())))

    def after_step(self, step: Step) -> None:
        if (step.number + 1) % self.redraw == 0:
            assert isinstance(step.encoder, TransformerConvolution)
            self.score(step.encoder, derive_seed(step.generator.initial_seed(), "graphs"))

    @torch.no_grad()
    def score(self, encoder: TransformerConvolution, seed: int) -> None:
        """Score new candidates, which follow from the seed: the sum over heads of attention between embeddings with their positions."""
        self.seed.fill_(seed)
        self.drawn = None
        graph = LoopedGraph(self.candidates(encoder), len(encoder.embedding))
        seen = placed(encoder.embedding, self.anchors, closeness(encoder.whole, self.anchors))
        attention = encoder.attend.weights(graph.pattern, seen)
        self.scores[: len(graph.pattern)] = torch.stack(attention).sum(0)

    def candidates(self, encoder: TransformerConvolution) -> Tensor:
        """The keys (C,) of the last drawing's candidates."""
        return candidates(encoder.whole, torch.Generator(self.seed.device).manual_seed(int(self.seed)))

    def graphs(self, encoder: TransformerConvolution) -> RationaleGraphs:
        """The graphs of the last drawing."""
        if self.drawn is None:
            keys = self.candidates(encoder)
            generator = torch.Generator(self.seed.device).manual_seed(derive_seed(int(self.seed), "draw"))
            self.drawn = draw(keys, self.scores[: len(keys)], len(encoder.embedding), self.keep, self.share, generator)
        return self.drawn

    def forward(self, step: Step) -> Losses:
        encoder, nodes = step.encoder, step.set.role("triples")[0].data["nodes"]
        assert isinstance(encoder, TransformerConvolution)
        graphs = self.graphs(encoder)
        every = torch.arange(len(encoder.embedding), device=nodes.device)
        whole = step.encode(View({"nodes": every, "graph": graphs.encoder, "decoder": graphs.decoder}))
        terms = self.recommendation(encoder, whole.rows, nodes)
        layers = list(whole.layers or [])[: encoder.depth]
        rationale, complement = (encoder.beside(graph, layers).index_select(0, nodes) for graph in (graphs.rationale, graphs.complement))
        users, items, _ = triples(rationale)
        terms["rationale"] = self.rationale * bpr_loss(users, items, triples(whole.rows.index_select(0, nodes))[2])
        terms["independence"] = self.independence * (users * triples(complement)[0]).logsumexp(1).mean()
        terms["l2"] = self.l2 * torch.stack([weight.square().sum() for weight in encoder.parameters()]).sum()
        return terms

    def recommendation(self, encoder: TransformerConvolution, rows: Tensor, nodes: Tensor) -> Losses:
        """The softmax over all items of the users of triples, nodes (3 b,), and log-partitions of the batch's users and items."""
        of_users, of_items = rows.split([encoder.users, encoder.items])
        users, items, _ = triples(nodes)
        found = item_softmax(of_users, of_items, users, items - encoder.users)
        once = zip(unique_nodes(nodes), (of_users, of_items), strict=True)
        sums = [log_partition(rows.index_select(0, own), side) for own, side in once]
        return Losses(softmax=found, partition=self.partition * torch.stack(sums).sum())


PRESETS: Presets = {
    "generated": {"lr": 5e-3, "l2": 1e-3, "partition": 0.1, "epochs": 40},
    "lastfm": {"lr": 5e-3, "l2": 3e-4, "partition": 0.1, "epochs": 100},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-4, "partition": 0.1, "epochs": 60},
    "grid": {"data": "generated", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(5e-4, 1e-2),
    "l2": LogUniform(1e-6, 3e-3),
    "layers": Integers(1, 3),
    "keep": Uniform(0.5, 0.95),
    "partition": LogUniform(0.01, 2.0),
    "rationale": LogUniform(0.01, 2.0),
    "independence": LogUniform(1e-4, 1e-1),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def gformer(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 2,
    heads: int = 4,
    deviation: float = 0.1,
    anchors: int = 64,
    redraw: int = 10,
    keep: float = 0.9,
    share: float = 0.1,
    partition: float = 1.0,
    rationale: float = 1.0,
    independence: float = 1e-3,
    l2: float = 1e-6,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """GFormer: a graph transformer whose most attended edges have to do alone (Li et al., 2023, arXiv 2306.02330).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions
        heads: of attention
        deviation: of the normal distribution that embeddings start from
        anchors: nodes that positions are seen from
        redraw: steps between two drawings of the graphs
        keep: share of the edges that the encoder sees
        share: share of the edges in the rationale, and in its complement
        partition: weight of how long and close users, and items, are
        rationale: weight of ranking by the rationale
        independence: weight of how alike rationale and complement are
        l2: weight of the squares of all weights
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **(reading or {}))
    catalogue = Catalogue.of(source)
    network = TransformerConvolution(catalogue.train, dim, layers=layers, heads=heads, deviation=deviation)
    shares = {"keep": keep, "share": share, "partition": partition, "rationale": rationale, "independence": independence, "l2": l2}
    objective = GFormer(dim, catalogue.train, anchors=anchors, redraw=redraw, **shares)
    tasks = [Task(Triples(catalogue.train), objective)]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
