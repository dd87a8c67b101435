"""GraphMAE's objective: rebuild the features of hidden nodes, judged by a scaled cosine error.

Hou, Liu, Cen, Dong, Yang, Wang, Tang. GraphMAE: Self-Supervised Masked Graph Autoencoders. KDD 2022, arXiv 2205.10803.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.sparse import csr_product
from anyview.views.view import ViewSet
from anyview_graphs.decoders import Decoder, DecoderKind, make_decoder
from anyview_graphs.dropout import check_rate
from anyview_graphs.graph import Graph
from anyview_graphs.layers import Norm
from anyview_graphs.sparse import full_precision, select_rows, transposed

EPS = 1e-12
"""Norms below this count as this, so that a row of zeros has cosine 0 with everything. A prediction of exact zeros (a hidden node whose
neighbours are all hidden, while the bias is still 0) therefore has a gradient of up to 1 / EPS on the bias, in the plain form too."""
CANCELLED = 1e-3
"""How far beyond 1 a cosine may come out before its row counts as a prediction that cancels to nothing, with cosine 0."""


def scaled_cosine_error(predicted: Tensor, target: Tensor, alpha: float = 3.0) -> Tensor:
    """Mean over rows of (1 - cos(predicted_i, target_i))^alpha, a scalar.

    predicted, target: (M, F). alpha >= 1. A row of zeros has cosine 0 and contributes 1.

    >>> x = torch.eye(4)
    >>> [float(scaled_cosine_error(y, x, alpha=2.0)) for y in (3 * x, x.roll(1, 0), -x)]
    [0.0, 1.0, 4.0]
    """
    predicted = predicted.to(target.dtype)  # under autocast it comes in half precision
    cosine = (nn.functional.normalize(predicted, dim=1, eps=EPS) * nn.functional.normalize(target, dim=1, eps=EPS)).sum(1)
    return (1.0 - cosine).clamp(min=0.0).pow(alpha).mean()


def factored_scaled_cosine_error(codes: Tensor, weight: Tensor, bias: Tensor, target: Tensor, alpha: float = 3.0) -> Tensor:
    """scaled_cosine_error(codes weight' + bias, target, alpha) without ever forming the (M, F) prediction; value and gradients equal.

    codes: (M, D). weight: (F, D). bias: (F,). target: (M, F), dense or CSR, without gradient.
    With G = weight' weight, ‖W s + b‖² = s' G s + 2 s' W' b + b' b, and <W s + b, x> = s . (W' x) + b . x, where x is sparse. Backward
    needs the products G s of the forward pass, Q = codes' diag(c) codes and W Q: F D^2 + M D^2 operations in each direction.
    """
    return full_precision(_FactoredError, codes, weight, bias, target, alpha)


def factoring_pays(rows: int, dim: int, features: int, nonzeros: int) -> bool:
    """Whether the factored form needs fewer multiplications, forward and backward, than forming the (rows, features) prediction.

    >>> factoring_pays(1354, 512, 1433, 25_000), factoring_pays(900, 512, 64, 900 * 64)
    (True, False)
    """
    return 2 * dim * dim * (features + rows) + 2 * nonzeros * dim < 3 * rows * dim * features


class MaskedFeatures(Objective):
    """GraphMAE: map the visible nodes' codes, decode the hidden nodes from them, compare with the untouched features.

    dim: width of the encoder's rows. decoder: kind of decoder; graph decoders see zeros at the hidden nodes, "mlp" and "linear" see
    their codes; it is made in `prepare`, from the number of features that the graph has. loss: "sce", the scaled cosine error with
    alpha >= 1, or "mse". input_dropout, attention_dropout, norm: the decoder's.
    concat_hidden: number of encoder layers whose outputs, all of width dim, are read side by side; 1 = the last alone.
    The target is the clean view's graph, untouched; the decoder always works on all its edges. Nothing that the encoder says about hidden
    nodes is read by a graph decoder, so the map before it is taken at the visible nodes only.
    """

    needs = Needs(masks=True, roles=("clean",), data="graph")
    tags = ("masked prediction",)
    decoder: Decoder

    def __init__(
        self,
        dim: int,
        *,
        decoder: DecoderKind = "gat",
        loss: Literal["sce", "mse"] = "sce",
        alpha: float = 3.0,
        input_dropout: float = 0.2,
        attention_dropout: float = 0.1,
        norm: Norm = "none",
        concat_hidden: int = 1,
    ) -> None:
        super().__init__()
        if alpha < 1.0:
            raise UserError(f"alpha must be at least 1, {alpha} was given; GraphMAE uses 1 to 3")
        check_rate("input_dropout", input_dropout)
        check_rate("attention_dropout", attention_dropout)
        self.loss, self.alpha, self.concat_hidden = loss, alpha, concat_hidden
        self.map = nn.Linear(dim * concat_hidden, dim, bias=False)
        self._make_decoder = functools.partial(
            make_decoder, decoder, dim, input_dropout=input_dropout, attention_dropout=attention_dropout, norm=norm
        )

    def prepare(self, views: ViewSet, samples: int) -> None:
        graph: Graph = views.role("clean")[0].data
        weight = self.map.weight
        self.decoder = self._make_decoder(graph.num_features).to(weight.device, weight.dtype)

    def forward(self, step: Step) -> Losses:
        view = step.views[0]
        encoding = step.encode(view)
        outputs = list(encoding.layers or [encoding.rows])
        rows = encoding.rows if self.concat_hidden == 1 else torch.cat(outputs[-self.concat_hidden :], dim=1)
        assert view.mask is not None
        return Losses(reconstruction=self.error(rows, view.mask.hidden, step.set.role("clean")[0].data))

    def error(self, rows: Tensor, hidden: Tensor, graph: Graph) -> Tensor:
        """The loss, a scalar. rows: (N, dim · concat_hidden) the encoder's. hidden: (N,) bool. graph: the untouched one."""
        masked, visible = hidden.nonzero().flatten(), (~hidden).nonzero().flatten()
        seen = self.map(rows.index_select(0, visible if self.decoder.remask else masked))
        codes = self.decoder.codes(seen, visible, masked, graph.edges)
        return self._compare(codes, select_rows(graph.x, masked if graph.rows is None else graph.rows[masked]))

    def _compare(self, codes: Tensor, target: Tensor) -> Tensor:
        weight, bias = self.decoder.weight, self.decoder.bias
        nonzeros = target.values().numel() if target.is_sparse_csr else target.numel()
        if self.loss == "sce" and factoring_pays(len(codes), weight.shape[1], weight.shape[0], nonzeros):
            return factored_scaled_cosine_error(codes, weight, bias, target, self.alpha)
        predicted, target = nn.functional.linear(codes, weight, bias), target.to_dense() if target.is_sparse_csr else target
        return (
            scaled_cosine_error(predicted, target, self.alpha)
            if self.loss == "sce"
            else nn.functional.mse_loss(predicted.to(target.dtype), target)
        )


class _FactoredError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, codes: Tensor, weight: Tensor, bias: Tensor, target: Tensor, alpha: float) -> Tensor:
        seen, offset, length = _times(target, weight), _times(target, bias.unsqueeze(1)).squeeze(1), _lengths(target)
        gram = codes @ (weight.t() @ weight)
        tilt = bias @ weight
        squared = ((gram + 2.0 * tilt) * codes).sum(1) + bias @ bias
        norm = squared.clamp(min=0.0).sqrt().clamp(min=EPS)
        cosine = ((seen * codes).sum(1) + offset) / (norm * length)
        cancelled = cosine.abs() > 1.0 + CANCELLED  # W s + b is nearly 0 and its square is rounding noise: no direction to learn from
        gap = (1.0 - cosine.masked_fill(cancelled, 0.0)).clamp(min=0.0, max=2.0)
        # how the loss moves with <prediction, target> and with |prediction|^2, per row
        slope = gap.pow(alpha - 1.0).mul_(-alpha / gap.numel()).masked_fill_(cancelled, 0.0)
        by_square = torch.where(squared > EPS * EPS, -0.5 * slope * cosine / norm.square(), 0.0)
        ctx.save_for_backward(codes, weight, bias, seen, gram + tilt, slope / (norm * length), by_square)
        ctx.target = target
        return gap.pow(alpha).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        codes, weight, bias, seen, pulled, by_product, by_square = ctx.saved_tensors
        by_product, by_square = by_product * gradients[0], 2.0 * by_square * gradients[0]
        d_codes = seen * by_product.unsqueeze(1) + pulled * by_square.unsqueeze(1)
        weighted = codes * by_square.unsqueeze(1)
        total = weighted.sum(0)
        d_weight = (weight @ (codes.t() @ weighted)).addr_(bias, total)
        d_bias = weight @ total + bias * by_square.sum()
        turned = transposed(ctx.target) if ctx.target.is_sparse_csr else ctx.target.t()
        d_weight.add_(_times(turned, codes * by_product.unsqueeze(1)))
        d_bias.add_(_times(turned, by_product.unsqueeze(1)).squeeze(1))
        return d_codes, d_weight, d_bias, None, None


def _times(matrix: Tensor, dense: Tensor) -> Tensor:
    """A product with a sparse or dense left factor."""
    return csr_product(matrix, dense) if matrix.is_sparse_csr else matrix @ dense


def _lengths(target: Tensor) -> Tensor:
    """(M,) norms of the rows, at least EPS."""
    if not target.is_sparse_csr:
        return target.norm(dim=1).clamp(min=EPS)
    return torch.segment_reduce(target.values().square(), "sum", offsets=target.crow_indices(), initial=0).sqrt().clamp(min=EPS)
