"""KGRec: the triples that say most of why items are used are hidden and found again, and weigh in what is contrasted.

Yang, Huang, Xia, Huang. Knowledge Graph Self-Supervised Rationalization for Recommendation. KDD 2023, arXiv 2307.02759.

A triple's rationale is its head's attention to it, times how many the head has. Each step draws half of each relation's triples and half
of the interactions, hides some triples, both ways, those of large rationale before others, and learns to say them. Items known by the
triples of large rationale alone have to find themselves among items known by interactions alone, of which those of such items stay.
Public code never draws the last relation and contrasts with one random negative; here each is drawn, and negatives are the batch's.
"""

from __future__ import annotations

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from anyview.encoders.heads import mlp
from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.batch_nodes import parts, unique_nodes
from anyview_recommenders.beside import knowledge_of
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.dropout import dropping, message_dropout, seeded
from anyview_recommenders.graph_convolution import check_rate
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.knowledge_convolution import KnowledgeConvolution, KnowledgeTriples
from anyview_recommenders.losses import node_contrast
from anyview_recommenders.objectives import BPR, ranked
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples

HEADS = 2
"""The mean of so many heads' products is the whole product, over HEADS and the root of a head's width."""
MOST = 4
"""No more than one in so many of the triples that are drawn is hidden for its rationale, and as many by chance."""


class RationaleConvolution(KnowledgeConvolution):
    """Entities gather their facts e_r ⊙ e_t by attention, a softmax over a head's triples of <W e_h, (W e_t) ⊙ e_r>.

    All is as in KnowledgeConvolution.

    >>> graph = KnowledgeGraph(3, 4, np.array([0]), np.array([0]), np.array([3]), np.array(["genre"], dtype=object))
    >>> RationaleConvolution(graph, csr_matrix(np.eye(2, 3)), dim=4)(View({"nodes": torch.tensor([0, 4])})).rows.shape
    torch.Size([2, 4])
    """

    def __init__(self, graph: KnowledgeGraph, matrix: csr_matrix, dim: int = 64, **options: float) -> None:
        super().__init__(graph, matrix, dim, **options)  # type: ignore[arg-type]
        self.attend = nn.Linear(dim, dim, bias=False)

    def hop(self, entities: Tensor, shown: Tensor | None) -> Tensor:
        found: Tensor = self.triples.pattern(self.attention(entities, shown), self.triples.facts(entities, self.relations))
        return found

    def attention(self, entities: Tensor, shown: Tensor | None = None) -> Tensor:
        """(K,): how much each triple counts for its head, which sum to 1; 0 for those that are not shown."""
        keyed = self.attend(entities)
        products = self.triples.pattern.products(keyed, self.triples.facts(keyed, self.relations))
        return self.triples.pattern.softmax(products / (HEADS * (self.dim / HEADS) ** 0.5), shown)

    @torch.no_grad()
    def rationale(self, shown: Tensor) -> Tensor:
        """(K,), without gradient: how much each triple counts for its head among those shown, (K,) bool, times how many of these it has."""
        pattern = self.triples.pattern
        counts = pattern.sums(shown.to(self.embedding.dtype))
        return self.attention(self.entities, shown) * counts.index_select(0, pattern.rows)

    def known(self, view: View) -> Tensor:
        """The rows (I, D) of items by the triples that a view shows alone: entities gather the mean of their facts."""
        pattern, generator = self.triples.pattern, seeded(view, self.embedding.device)
        shares = pattern.shares(view.data["triples"])
        rows = total = self.entities
        for _ in range(self.hops):
            rows = normalize(message_dropout(pattern(shares, self.triples.facts(rows, self.relations)), self.dropout, generator))
            total = total + rows
        return total[: self.items]

    def used(self, keep: Tensor) -> Tensor:
        """The rows (I, D) of items by some interactions alone, (n,) bool: those of a light graph convolution, a mean over hops."""
        pattern, kept = self.interactions, keep.to(self.embedding.dtype)
        of_users = pattern.sums(kept).clamp(min=1.0).rsqrt()
        of_items = kept.new_zeros(self.items).index_add(0, pattern.columns, kept).clamp(min=1.0).rsqrt()
        weights = kept * of_users.index_select(0, pattern.rows) * of_items.index_select(0, pattern.columns)
        users, items = self.embedding[: self.users], self.entities[: self.items]
        total = items
        for _ in range(self.hops):
            users, items = pattern(weights, items), pattern.back(weights, users)
            total = total + items
        return total / (1 + self.hops)


def of_each_relation(triples: KnowledgeTriples, share: float, numbers: Tensor) -> Tensor:
    """(K,) bool: a share of each relation's triples, rounded up, those with the smallest of the numbers (K,)."""
    order = numbers.argsort()
    order = order.index_select(0, triples.relation.index_select(0, order).argsort(stable=True))
    counts = torch.bincount(triples.relation, minlength=triples.relations)
    relation = triples.relation.index_select(0, order)
    place = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts).index_select(0, relation)
    return torch.empty_like(triples.relation, dtype=torch.bool).index_copy(
        0, order, place < (share * counts).ceil().index_select(0, relation)
    )


def largest(numbers: Tensor, count: int, among: Tensor) -> Tensor:
    """(count,) int64: where the largest numbers are, of (K,), among those that (K,) bool says.

    >>> largest(torch.tensor([3.0, 1.0, 2.0]), 1, torch.tensor([False, True, True])).tolist()
    [2]
    """
    return numbers.masked_fill(~among, -torch.inf).topk(count).indices


def there(places: Tensor, count: int) -> Tensor:
    """(count,) bool: whether a number is among the places (m,)."""
    return torch.zeros(count, dtype=torch.bool, device=places.device).index_fill(0, places, True)


def of_items(triples: KnowledgeTriples, rationale: Tensor, shown: Tensor, items: int) -> Tensor:
    """(I,): half of the mean rationale (K,) of the shown triples, (K,) bool, that have an item for head, and half of that for tail.

    A mean of none is 1.
    """
    total = rationale.new_zeros(items)
    for side in (triples.heads, triples.tails):
        counts, sums = (
            rationale.new_zeros(triples.pattern.shape[0]).index_add(0, side, part)[:items]
            for part in (shown.to(rationale), rationale * shown)
        )
        total = total + torch.where(counts > 0, sums / counts.clamp(min=1.0), 1.0) / 2
    return total


class KGRec(BPR):
    """BPR, triples of large rationale found again, and contrast of items by triples with items by interactions.

    dim: width of the encoder's rows. masked: triples that are hidden for their rationale, and as many by chance, at most a quarter each of
    those that a step draws. rate: share of the triples and of the interactions that a step leaves out, and each side of the contrast.
    reconstruction: weight of finding hidden triples. contrast, temperature: weight of the contrast, and what its cosines are divided by.
    l2: as in BPR. Raises UserError where nothing is hidden.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive", "masked prediction")

    def __init__(
        self,
        dim: int,
        *,
        masked: int = 256,
        rate: float = 0.5,
        reconstruction: float = 0.1,
        contrast: float = 1e-3,
        temperature: float = 0.2,
        l2: float = 1e-5,
    ) -> None:
        super().__init__(dim, l2=l2)
        if masked < 1:
            raise UserError(f"at least 1 triple is hidden, and masked is {masked}; give more, or weigh it by --reconstruction 0")
        self.masked, self.rate, self.temperature = masked, check_rate("rate", rate), temperature
        self.reconstruction, self.contrast = reconstruction, contrast
        self.project_known, self.project_used = (mlp(dim, dim, dim, norm=False) for _ in range(2))

    def forward(self, step: Step) -> Losses:
        encoder, draws = step.encoder, step.draws
        assert isinstance(encoder, RationaleConvolution)
        triples = encoder.triples
        drawn = of_each_relation(triples, 1 - self.rate, draws.shared_uniform(len(triples)))
        rationale = encoder.rationale(drawn)
        noisy = rationale + draws.shared_gumbel(len(triples))
        terms = self.found(step, self.hidden(noisy, drawn, draws), drawn)
        most = there(largest(noisy, round((1 - self.rate) * int(drawn.sum())), drawn), len(triples))
        weights = of_items(triples, rationale, drawn, encoder.items)
        items = unique_nodes(step.set.role("triples")[0].data["nodes"])[1] - encoder.users
        known = encoder.known(View({"triples": most, **dropping(draws, 1)})).index_select(0, items)
        used = encoder.used(self.kept(encoder, weights, draws)).index_select(0, items)
        terms["contrast"] = self.contrast * node_contrast(self.project_known(known), self.project_used(used), self.temperature)
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # the contrast's part follows from how many different items a batch has

    def hidden(self, noisy: Tensor, drawn: Tensor, draws: Draws) -> Tensor:
        """(m,) int64: triples that are to be found, those of largest noisy rationale (K,) of the drawn (K,) bool, then others by chance."""
        count = max(1, min(self.masked, int(drawn.sum()) // MOST))
        most = largest(noisy, count, drawn)
        numbers = draws.shared_uniform(len(noisy))
        return torch.cat([most, largest(numbers, count, drawn & ~there(most, len(noisy)))])

    def found(self, step: Step, hidden: Tensor, drawn: Tensor) -> Losses:
        """BPR, and -ln σ(<e_h, e_t ⊙ e_r>) of hidden triples (m,), by rows that neither they nor their inverses are shown for."""
        encoder, nodes = step.encoder, step.set.role("triples")[0].data["nodes"]
        assert isinstance(encoder, RationaleConvolution)
        triples, users = encoder.triples, encoder.users
        shown = drawn & ~there(torch.cat([hidden, triples.inverse.index_select(0, hidden)]), len(drawn))
        kept = step.draws.shared_uniform(len(encoder.interactions)) >= self.rate
        data = {"triples": shown, "interactions": kept / (1 - self.rate), **dropping(step.draws)}
        heads, tails = (users + side.index_select(0, hidden) for side in (triples.heads, triples.tails))
        encoding = step.encode(View({"nodes": torch.cat([nodes, heads, tails]), **data}))
        of_batch, of_heads, of_tails = parts(encoding, [len(nodes), len(hidden), len(hidden)])
        terms = ranked(of_batch, self.l2)
        relations = encoder.relations.index_select(0, triples.relation.index_select(0, hidden))
        terms["reconstruction"] = self.reconstruction * softplus(-(of_heads.rows * of_tails.rows * relations).sum(1)).mean()
        return terms

    def kept(self, encoder: RationaleConvolution, weights: Tensor, draws: Draws) -> Tensor:
        """(n,) bool: interactions drawn without putting back by a softmax of their items' weights (I,) with Gumbel noise.

        The first of a second Gumbel noise are what such a draw gives.
        """
        of_each = weights.index_select(0, encoder.interactions.columns)
        count = len(of_each)
        noisy = of_each + draws.shared_gumbel(count) + draws.shared_gumbel(count)
        return there(noisy.topk(round((1 - self.rate) * count)).indices, count)


PRESETS: Presets = {
    "generated-knowledge": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "epochs": 60},
    "grid": {"data": "generated-knowledge", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "hops": Integers(1, 3),
    "rate": Uniform(0.1, 0.5),
    "reconstruction": LogUniform(1e-2, 0.5),
    "contrast": LogUniform(1e-4, 0.1),
    "temperature": LogUniform(0.05, 0.5),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def kgrec(
    data: str = "ml-latest-small",
    *,
    reading: Reading = None,
    dim: int = 64,
    hops: int = 2,
    deviation: float = 0.1,
    masked: int = 256,
    rate: float = 0.5,
    reconstruction: float = 0.1,
    contrast: float = 1e-3,
    temperature: float = 0.2,
    dropout: float = 0.1,
    l2: float = 1e-5,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-4,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """KGRec: triples that say why items are used, hidden and found again (Yang et al., 2023, arXiv 2307.02759).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions, of which knowledge is that of the data
        dim: width of the rows
        hops: steps along triples
        deviation: of the normal distribution that embeddings start from
        masked: triples hidden for their rationale, and as many by chance
        rate: share of triples and of interactions that a step leaves out
        reconstruction: weight of finding hidden triples
        contrast: weight of the contrast of items by triples with items by interactions
        temperature: what cosines are divided by
        dropout: share of the numbers in messages that a step leaves out
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"knowledge": "own", **(reading or {})})
    catalogue = Catalogue.of(source)
    network = RationaleConvolution(knowledge_of(source), catalogue.train, dim, hops=hops, deviation=deviation, dropout=dropout)
    weights = {"reconstruction": reconstruction, "contrast": contrast, "temperature": temperature, "l2": l2}
    tasks = [Task(Triples(catalogue.train), KGRec(dim, masked=masked, rate=rate, **weights))]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
