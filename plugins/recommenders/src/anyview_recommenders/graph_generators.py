"""Graphs that are learned: which interactions an autoencoder of the graph believes, and how much each counts once noise is taken out.

Kipf, Welling. Variational Graph Auto-Encoders. 2016, arXiv 1611.07308. Hard concrete gates: Louizos, Welling, Kingma. Learning Sparse
Neural Networks through L0 Regularization. ICLR 2018, arXiv 1712.01312. Both as they are in AdaGCL: Jiang, Huang, Xia. Adaptive Graph
Contrastive Learning for Recommendation. KDD 2023, arXiv 2305.10837.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from scipy import sparse
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import softplus

from anyview.encoders.heads import mlp
from anyview.errors import UserError
from anyview.objectives.contrast import blocks
from anyview.objectives.gram import full
from anyview_recommenders.graph_convolution import Adjacency
from anyview_recommenders.sparse_product import SparsePattern

LOW, HIGH = -0.45, 1.05
"""What gates are stretched to before they are cut off at 0 and 1, so that they can be just that."""
STEEPEST = 10.0
"""The most that a node's row is multiplied by where its gates are nearly shut."""


class GraphAutoencoder(nn.Module):
    """A variational autoencoder of interactions: a normal distribution of codes for each node, and from two codes whether they interact.

    dim: D. Mean and deviation are heads of two layers of a node's row, the deviation by a softplus; a third reads relu(z_h ⊙ z_t).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean, self.deviation = (mlp(dim, dim, dim, norm=False) for _ in range(2))
        self.decode = nn.Sequential(nn.ReLU(), *mlp(dim, dim, 1, norm=False))

    def forward(self, rows: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (N, D) of rows (N, D) by standard normal noise (N, D), and their divergence from it, a mean over nodes."""
        mean, deviation = full(self.mean(rows)), softplus(full(self.deviation(rows))) + 1e-8
        return mean + deviation * noise, divergence(mean, deviation)

    def logits(self, a: Tensor, b: Tensor) -> Tensor:
        """How sure it is that nodes of codes a and b, (M, D) both, interact: (M,) log-odds."""
        return full(self.decode(a * b)).squeeze(1)

    @torch.no_grad()
    def graph(self, adjacency: Adjacency, codes: Tensor) -> Adjacency:
        """The interactions that are as likely as not by codes (N, D), without gradient; their entries are divided by the share that stays.

        Other entries are 0, and nothing is normalised anew.
        """
        users, items = adjacency.ends()
        parts = [self.logits(codes[users[own]], codes[items[own]]) >= 0 for own in blocks(adjacency.size, codes.shape[1])]
        kept = torch.cat(parts).to(adjacency.values)
        kept = kept / kept.mean().clamp(min=1 / adjacency.size)
        return replace(adjacency, values=adjacency.values * kept.index_select(0, adjacency.interactions))


def divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal distributions, mean and deviation (N, D), from the standard normal one; a mean over nodes.

    >>> float(divergence(torch.zeros(3, 2), torch.ones(3, 2))), float(divergence(torch.ones(3, 2), torch.ones(3, 2)))
    (0.0, 1.0)
    """
    return (mean.square() + deviation.square() - 1 - 2 * deviation.log()).sum(1).mean() / 2


def found_again(own: Tensor, others: Tensor) -> Tensor:
    """Binary cross-entropy of pairs that interact and of as many that do not, by log-odds (B,) each; the sum of both means.

    >>> round(float(found_again(torch.zeros(3), torch.zeros(3)).exp()), 4)
    4.0
    """
    return softplus(-own).mean() + softplus(others).mean()


class GraphDenoiser(nn.Module):
    """A convolution over users and items whose every layer has a gate for each direction of each interaction.

    matrix: (U, I) CSR of the training interactions. dim: D. layers: L. An entry's log-odds are Linear([relu W x_h; relu W' x_t]) of the
    layer's rows at its two ends, which is a sum of a number for each end; nothing is made of the size of interactions times D. Gated
    entries are divided by the roots of the sums of both ends' rows. Raises UserError for fewer than one layer.

    >>> denoiser = GraphDenoiser(csr_matrix(np.eye(2, 3)), dim=4, layers=1)
    >>> [layer.shape for layer in denoiser(torch.zeros(5, 4))]
    [torch.Size([5, 4]), torch.Size([5, 4])]
    """

    def __init__(self, matrix: csr_matrix, dim: int, layers: int) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"gates are learned for the interactions of each layer, and layers is {layers}; give at least one")
        self.pattern = SparsePattern(sparse.block_array([[None, matrix], [matrix.T, None]]))
        self.of_heads, self.of_tails = (nn.ModuleList(mlp(dim, dim, 1, norm=False) for _ in range(layers)) for _ in range(2))

    def forward(self, rows: Tensor) -> list[Tensor]:
        """Rows (N, D) and what each layer makes of them by gates without noise: L + 1 tensors, with gradient to the rows, not the gates."""
        found = [rows]
        for layer in range(len(self.of_heads)):
            with torch.no_grad():
                entries = self.normalised(hard_concrete(self.logits(layer, found[-1])))
            found.append(self.pattern(entries, found[-1]))
        return found

    def noisy(self, rows: Tensor, numbers: Tensor, temperature: float) -> tuple[list[Tensor], Tensor]:
        """The same with gradient to the gates, which are drawn by numbers in [0, 1), (L, T); and the sum over layers of `open_share`."""
        found, shares = [rows], []
        for layer, own in enumerate(numbers):
            logits = self.logits(layer, found[-1])
            shares.append(open_share(logits, temperature))
            found.append(self.pattern(self.normalised(hard_concrete(logits, temperature, own)), found[-1]))
        return found, torch.stack(shares).sum()

    def logits(self, layer: int, rows: Tensor) -> Tensor:
        """The log-odds (T,) of a layer's gates, from the rows (N, D) that it reads."""
        of_head, of_tail = (full(of_end[layer](rows)).squeeze(1) for of_end in (self.of_heads, self.of_tails))
        return of_head.index_select(0, self.pattern.rows) + of_tail.index_select(0, self.pattern.columns)

    def normalised(self, gates: Tensor) -> Tensor:
        """Gates (T,) as entries of a matrix: divided by the roots of the sums of the rows of both ends."""
        scale = (self.pattern.sums(gates) + 1e-6).rsqrt().clamp(max=STEEPEST)
        return gates * scale.index_select(0, self.pattern.rows) * scale.index_select(0, self.pattern.columns)


def hard_concrete(logits: Tensor, temperature: float = 1.0, numbers: Tensor | None = None) -> Tensor:
    """Gates in [0, 1], many of them exactly 0 or 1, from log-odds (T,): as they are, or drawn by numbers (T,) in [0, 1).

    temperature: of what is drawn; the lower, the nearer to 0 and 1.

    >>> hard_concrete(torch.tensor([-9.0, 0.0, 9.0]))
    tensor([0.0000, 0.3000, 1.0000])
    """
    if numbers is not None:
        logits = (logits + numbers.logit(eps=1e-7)) / temperature
    return (logits.sigmoid() * (HIGH - LOW) + LOW).clamp(0.0, 1.0)


def open_share(logits: Tensor, temperature: float) -> Tensor:
    """How many gates are to be expected above 0 when they are drawn, as a share: the L0 norm over its largest value.

    >>> float(open_share(torch.tensor([100.0, -100.0]), 0.5))
    0.5
    """
    return (logits - temperature * math.log(-LOW / HIGH)).sigmoid().mean()
