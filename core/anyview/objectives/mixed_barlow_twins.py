"""Mixed Barlow Twins: Barlow Twins, and what is encoded from a mixture of two samples is the mixture of what is encoded from each.

Bandara, De Melo, Patel. Guarding Barlow Twins Against Overfitting with Mixed Samples. 2023, arXiv 2312.02151.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.errors import UserError
from anyview.objectives.barlow_twins import correlation_loss, standardise
from anyview.objectives.gram import Grams, full, squared_norm
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.views.mix import beta, mix, partners
from anyview.views.view import View


def mixed_barlow_twins_terms(
    a: Tensor, b: Tensor, mixed: Tensor, partner: Tensor, weight: Tensor | float, redundancy: float = 1 / 128
) -> dict[str, Tensor]:
    """The Barlow Twins loss of two views, "barlow_twins", and redundancy times the error of the mixed view's correlations, "mixing".

    a, b: (M, D), row i of both from the same sample. mixed: (M, D), row i from weight·(view a of sample i) + (1 - weight)·(view b of
    sample partner[i]). partner: (M,) a permutation. weight: one number. Columns of all three are standardised. The cross-correlations of
    the mixed view with a and with b should be those of the mixture of a and b[partner], and gradients flow through these targets too.

    With R = mixed - weight·a - (1 - weight)·b[partner] both errors are products, Rᵀa and Rᵀb, so no target is built; with M < D the
    squared norms come from three M x M Gram matrices and no D x D matrix is made.

    >>> a, b = torch.eye(4), torch.eye(4).flip(0)
    >>> terms = mixed_barlow_twins_terms(a, b, a, partner=torch.arange(4), weight=1.0)
    >>> float(terms["mixing"])
    0.0
    """
    grams = Grams()
    a, b, mixed = standardise(full(a)), standardise(full(b)), standardise(full(mixed))
    residue = mixed - mix(a, b[partner], weight)
    errors = squared_norm(residue, a, grams) + squared_norm(residue, b, grams)
    return {
        "barlow_twins": correlation_loss(a, b, redundancy, grams),
        "mixing": (redundancy * errors / len(a) ** 2).to(a.dtype),
    }


class MixedBarlowTwins(Objective):
    """Objective over two views and a third, which it mixes from them and encodes; owns the projector that the loss is taken on.

    dim: width of the encoder's rows, one for each sample. hidden, width: of the projector. unit: whether its rows are given unit length
    before columns are standardised. redundancy: weight of Barlow Twins' off-diagonal part. mixing: weight of the mixing term, on top of
    `redundancy` (the paper's ImageNet script halves it). warmup_epochs: passes over which that weight rises from 0. alpha: of the Beta
    distribution that a batch's one weight is drawn from. block: partners come from so many consecutive rows, which must divide every
    rank's rows; without it they come from the whole batch, and ranks send each other their data.

    Raises UserError for views that cannot be interpolated, such as graphs, sets of tensors and numbers of tokens.
    """

    needs = Needs(views=2, data="tensor", couples_rows=True)
    tags = ("information maximisation",)

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 512,
        width: int = 1024,
        unit: bool = True,
        redundancy: float = 1 / 128,
        mixing: float = 4.0,
        warmup_epochs: float = 0.0,
        alpha: float = 1.0,
        block: int | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.project = mlp(dim, hidden, width)
        self.unit, self.redundancy, self.mixing, self.warmup_epochs = unit, redundancy, mixing, warmup_epochs
        self.alpha, self.block = alpha, block

    def forward(self, step: Step) -> Losses:
        first, second = step.seen_whole[:2]
        weight = beta(step.draws, self.alpha, shared=True)
        partner = partners(step.draws, self.block)
        mixed = self._mixed(step, first, second, partner, weight)
        a, b, between = (self._projected(step, view) for view in (first, second, mixed))
        order = gather_rows(partner.to(a.device))
        if len(order) != len(a):
            found = f"{len(a)} rows for {len(order)} samples"
            raise UserError(
                f"Mixed Barlow Twins mixes samples and compares rows, and the encoder gave {found}; use one that gives one each"
            )
        terms = mixed_barlow_twins_terms(a, b, between, order, weight[0].to(a), self.redundancy)
        terms["mixing"] = terms["mixing"] * self._ramp(step)
        return Losses(terms)

    def collapse_line(self, rows: int) -> float:
        return float(self.width)

    def _mixed(self, step: Step, first: View, second: View, partner: Tensor, weight: Tensor) -> View:
        """The view of weight·first + (1 - weight)·(second of the partner)."""
        _check_mixable(first, second)
        others = gather_rows(second.data)[partner] if self.block is None else second.data[partner - step.draws.start]
        return View(mix(first.data, others, weight.to(first.data)), stream=first.stream, index=first.index, groups=first.groups)

    def _projected(self, step: Step, view: View) -> Tensor:
        rows = full(self.project(step.encode(view).rows))
        return gather_rows(normalize(rows, dim=1, eps=1e-12) if self.unit else rows)

    def _ramp(self, step: Step) -> float:
        return self.mixing * (min(1.0, step.epoch / self.warmup_epochs) if self.warmup_epochs else 1.0)


def _check_mixable(first: View, second: View) -> None:
    """Raise UserError unless two views are tensors of numbers that can be interpolated, of one shape, with nothing hidden."""
    views = (first, second)
    tensors = all(isinstance(view.data, Tensor) and view.data.is_floating_point() and view.mask is None for view in views)
    if tensors and first.data.shape[1:] == second.data.shape[1:] and first.stream == second.stream:
        return
    kinds = " and ".join(_kind(view) for view in views)
    asked = (
        "Mixed Barlow Twins interpolates the samples of two views, which must be unmasked floating-point tensors of one shape and stream"
    )
    raise UserError(f"{asked}, and these are {kinds}; choose such views, or barlow_twins for these")


def _kind(view: View) -> str:
    masked = "" if view.mask is None else "masked "
    if not isinstance(view.data, Tensor):
        return f"{masked}{type(view.data).__name__}"
    return f"{masked}{str(view.data.dtype).removeprefix('torch.')} of shape {tuple(view.data.shape)} in stream {view.stream!r}"
