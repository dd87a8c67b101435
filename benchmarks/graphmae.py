"""Times one training epoch of GraphMAE's Cora preset: this library against the textbook form in plain PyTorch.

    python benchmarks/graphmae.py --threads 1 2 --json graphmae.json

Both train the same model on the same views. The textbook form keeps features dense, passes (E, H, d) messages with gather and scatter, and
its decoder maps every node to F features before it aggregates. With dropout off and equal weights both must give one loss and one gradient;
the script checks that first and stops if they differ. The two are timed in turn, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from anyview.console import make_console, make_table
from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.views.draws import Draws
from anyview.views.view import View, ViewSet
from anyview_graphs.datasets import open_graph
from anyview_graphs.encoders import GraphAttention
from anyview_graphs.graph import Graph, add_self_loops
from anyview_graphs.objectives import MaskedFeatures
from anyview_graphs.views import MaskNodes

HIDDEN, HEADS, ALPHA = 512, 4, 3.0
MASKING = MaskNodes(0.5, replace_rate=0.05, target=False)
OPTIMISER: dict[str, Any] = {"lr": 1e-3, "weight_decay": 2e-4}


class TextbookAttention(nn.Module):
    """Graph attention with messages of every edge."""

    def __init__(self, features: int, heads: int, width: int, dropout: tuple[float, float]) -> None:
        super().__init__()
        self.heads, self.width, self.dropout = heads, width, dropout
        self.map = nn.Linear(features, heads * width, bias=False)
        self.source, self.target = nn.Parameter(torch.empty(1, heads, width)), nn.Parameter(torch.empty(1, heads, width))
        self.bias = nn.Parameter(torch.zeros(heads * width))

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        on_input, on_attention = self.dropout
        source, target = index
        z = self.map(functional.dropout(x, on_input, self.training)).view(-1, self.heads, self.width)
        scores = (z * self.source).sum(-1)[source] + (z * self.target).sum(-1)[target]
        alpha = functional.dropout(softmax_into(functional.leaky_relu(scores, 0.2), target, len(x)), on_attention, self.training)
        messages = z[source] * alpha.unsqueeze(-1)
        return torch.zeros_like(z).index_add(0, target, messages).flatten(1) + self.bias


def softmax_into(scores: Tensor, target: Tensor, nodes: int) -> Tensor:
    """(E, H) softmax over the edges into each node."""
    spread = target.unsqueeze(1).expand_as(scores)
    largest = torch.full((nodes, scores.shape[1]), -torch.inf).scatter_reduce(0, spread, scores.detach(), "amax")
    weights = (scores - largest[target]).exp()
    return weights / torch.zeros(nodes, scores.shape[1]).scatter_add(0, spread, weights)[target]


class TextbookGraphMAE(nn.Module):
    """GraphMAE as the paper writes it."""

    def __init__(self, features: int, dropout: tuple[float, float]) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, features))
        self.layers = nn.ModuleList(TextbookAttention(width, HEADS, HIDDEN // HEADS, dropout) for width in (features, HIDDEN))
        self.activations = nn.ModuleList(nn.PReLU() for _ in range(2))
        self.map = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.decoder = TextbookAttention(HIDDEN, 1, features, dropout)

    def forward(self, x: Tensor, shown: Tensor, index: Tensor, hidden: Tensor, tokens: Tensor) -> Tensor:
        rows = x[shown]
        rows[tokens] = 0.0
        rows[tokens] += self.token
        for layer, activation in zip(self.layers, self.activations, strict=True):
            rows = activation(layer(rows, index))
        codes = self.map(rows)
        codes[hidden] = 0.0
        predicted = functional.normalize(self.decoder(codes, index)[hidden], dim=-1)
        return (1 - (predicted * functional.normalize(x[hidden], dim=-1)).sum(-1)).pow(ALPHA).mean()


class Ours(nn.Module):
    """Encoder and objective in one module."""

    def __init__(self, graph: Graph, dropout: tuple[float, float]) -> None:
        super().__init__()
        rates: dict[str, Any] = {"input_dropout": dropout[0], "attention_dropout": dropout[1]}
        self.encoder = GraphAttention(graph.num_features, hidden=HIDDEN, heads=HEADS, **rates)
        self.objective = MaskedFeatures(HIDDEN, alpha=ALPHA, **rates)
        self.objective.prepare(ViewSet([View(graph, role="clean")]), samples=graph.num_nodes)


class Experiment:
    """One graph, both models with equal weights, and what each does in one epoch."""

    def __init__(self, graph: Graph, *, dropout: tuple[float, float], fused: bool = False) -> None:
        self.graph, self.dense, self.index = graph, graph.x.to_dense(), graph.edges.index
        torch.manual_seed(0)
        self.ours, self.textbook = Ours(graph, dropout), TextbookGraphMAE(graph.num_features, dropout)
        copy_weights(self.ours, self.textbook)
        self.optimisers = (
            torch.optim.Adam(self.ours.parameters(), **OPTIMISER, fused=fused),
            torch.optim.Adam(self.textbook.parameters(), **OPTIMISER),
        )
        self.epoch = 0

    def view(self, number: int) -> tuple[View, Step]:
        """The view of one epoch, and the step around it."""
        batch = Batch(self.graph, rows=self.graph.num_nodes)
        draws = Draws.seeded(number, total=self.graph.num_nodes)
        views = MASKING(batch, draws)
        return views.views[0], Step(views, batch, draws, number, 1, self.ours.encoder)

    def our_loss(self, number: int) -> Tensor:
        """Making the view is part of the epoch."""
        return self.ours.objective(self.view(number)[1]).total

    def textbook_loss(self, number: int) -> Tensor:
        """The same view, in the textbook's terms."""
        view = self.view(number)[0]
        assert view.mask is not None
        hidden, tokens = (mask.nonzero().flatten() for mask in (view.mask.hidden, view.mask.replaced))
        return self.textbook(self.dense, view.data.rows, self.index, hidden, tokens)

    def train(self, which: int) -> None:
        """One epoch of one of the two: view, forward, backward, optimiser."""
        loss = (self.our_loss, self.textbook_loss)[which](self.epoch)
        self.optimisers[which].zero_grad()
        loss.backward()
        self.optimisers[which].step()


@torch.no_grad()
def copy_weights(ours: Any, textbook: Any) -> None:
    """Give the textbook model our weights, and the token a value, so that every path is taken."""
    ours.encoder.token.normal_(std=0.01)
    textbook.token.copy_(ours.encoder.token)
    textbook.map.weight.copy_(ours.objective.map.weight)
    for theirs, own in zip(textbook.layers, ours.encoder.layers, strict=True):
        theirs.map.weight.copy_(own.weight.t())
    textbook.decoder.map.weight.copy_(ours.objective.decoder.weight)
    for theirs, own in zip([*textbook.layers, textbook.decoder], [*ours.encoder.layers, ours.objective.decoder], strict=True):
        for name in ("source", "target", "bias"):
            getattr(theirs, name).copy_(getattr(own, name))


def relative(a: Tensor, b: Tensor) -> float:
    """|a - b| over |b|."""
    return float((a - b).norm() / b.norm())


def agreement(graph: Graph) -> dict[str, float]:
    """Relative differences of the loss and of the gradients, dropout off; raises SystemExit when they are more than rounding."""
    experiment = Experiment(graph, dropout=(0.0, 0.0))
    ours, textbook = experiment.our_loss(0), experiment.textbook_loss(0)
    ours.backward()
    textbook.backward()
    own, theirs = cast("tuple[Any, Any]", (experiment.ours, experiment.textbook))
    compared = {
        "loss": (ours.detach(), textbook.detach()),
        "gradient of the first map": (own.encoder.layers[0].weight.grad.t(), theirs.layers[0].map.weight.grad),
        "gradient of the second map": (own.encoder.layers[1].weight.grad.t(), theirs.layers[1].map.weight.grad),
        "gradient of the decoder": (own.objective.decoder.weight.grad, theirs.decoder.map.weight.grad),
        "gradient of the token": (own.encoder.token.grad, theirs.token.grad),
    }
    differences = {name: relative(a, b) for name, (a, b) in compared.items()}
    if differences["loss"] > 1e-5 or max(differences.values()) > 1e-3:
        raise SystemExit(f"the two forms disagree: {differences}")
    return differences


def products(graph: Graph) -> list[tuple[int, int, int]]:
    """(n, k, m) of every dense matrix product (n, k) (k, m) in one of our epochs; sparse and thin ones left out."""
    nodes, features, d = graph.num_nodes, graph.num_features, HIDDEN
    hidden = nodes // 2
    visible, tokens = nodes - hidden, int(0.95 * hidden)
    return [
        *((tokens, features, d), (features, tokens, d)),
        *((nodes, d, d), (nodes, d, d), (d, nodes, d)),
        *((visible, d, d), (visible, d, d), (d, visible, d)),
        *((d, features, d), (hidden, d, d), (d, hidden, d), (features, d, d)),
    ]


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def floor_of(graph: Graph) -> Callable[[], None]:
    """Runs our epoch's dense products and nothing else."""
    factors = [(torch.randn(n, k), torch.randn(k, m)) for n, k, m in products(graph)]

    def run() -> None:
        for a, b in factors:
            torch.mm(a, b)

    return run


def measure(graph: Graph, threads: int, repeats: int) -> dict[str, float]:
    """Median seconds of every contestant, timed in turn."""
    torch.set_num_threads(threads)
    experiment, fused_adam = Experiment(graph, dropout=(0.2, 0.1)), Experiment(graph, dropout=(0.2, 0.1), fused=True)
    floor = floor_of(graph)
    contestants: dict[str, Callable[[], None]] = {
        "ours": lambda: experiment.train(0),
        "textbook": lambda: experiment.train(1),
        "ours, fused Adam": lambda: fused_adam.train(0),
        "our matrix products alone": floor,
    }
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(repeats + 2):
        experiment.epoch = fused_adam.epoch = number
        for name, work in contestants.items():
            elapsed = seconds(work)
            if number >= 2:
                taken[name].append(elapsed)
    return {name: statistics.median(values) for name, values in taken.items()}


def cora_or_synthetic() -> tuple[str, Graph]:
    """Cora from the data root, else a random graph of its size and density."""
    try:
        source: Any = open_graph("cora")
        return "cora", source.graph
    except UserError:
        generator = torch.Generator().manual_seed(0)
        nodes, features = 2708, 1433
        x = (torch.rand(nodes, features, generator=generator) < 0.0127).float()
        index = torch.randint(nodes, (2, 5278), generator=generator)
        graph = add_self_loops(Graph.from_edges(index, x / x.sum(1, keepdim=True).clamp(min=1), undirected=True))
        return "synthetic graph of Cora's size", graph


def show(name: str, results: dict[int, dict[str, float]], differences: dict[str, float], flops: float) -> None:
    """The table."""
    console = make_console()
    console.print(f"GraphMAE, Cora preset, one epoch on {name}; torch {torch.__version__}, CPU; median ms, in turn")
    console.print("agreement without dropout: " + ", ".join(f"{key} {value:.1e}" for key, value in differences.items()))
    table = make_table("threads", "textbook", "ours", "ratio", "ours, fused Adam", "our products alone", "their GFLOP/s")
    for threads, median in results.items():
        textbook, ours, fused, floor = (median[key] for key in ("textbook", "ours", "ours, fused Adam", "our matrix products alone"))
        times = [f"{1e3 * value:.0f}" for value in (textbook, ours, fused, floor)]
        table.add_row(str(threads), *times[:2], f"{textbook / ours:.2f}", *times[2:], f"{flops / floor / 1e9:.0f}")
    console.print(table)
    console.print(f"our dense products: {flops / 1e9:.1f} GFLOP")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts to time")
    parser.add_argument("--repeats", type=int, default=15, help="epochs per contestant; the median counts")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    name, graph = cora_or_synthetic()
    differences = agreement(graph)
    results = {threads: measure(graph, threads, options.repeats) for threads in options.threads}
    flops = sum(2.0 * n * k * m for n, k, m in products(graph))
    show(name, results, differences, flops)
    if options.json:
        facts = {"data": name, "torch": torch.__version__, "gflop": flops / 1e9, "agreement": differences, "seconds": results}
        options.json.write_text(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
