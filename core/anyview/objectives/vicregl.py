"""VICRegL: VICReg on whole samples, and again on pairs of their parts that look alike or lie at the same place.

Bardes, Ponce, LeCun. VICRegL: Self-Supervised Learning of Local Visual Features. 2022, arXiv 2210.01571.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from anyview.distributed import gather_rows
from anyview.encoders.heads import projector
from anyview.errors import UserError
from anyview.objectives.gram import full, full_products
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.vicreg import spread_terms
from anyview.views.location import in_sample
from anyview.views.view import View

Terms = dict[str, Tensor]

EXACT, FAST = "donot_use_mm_for_euclid_dist", "use_mm_for_euclid_dist"


def nearest_pairs(
    near: Tensor, others: Tensor, count: int, valid: Tensor | None = None, valid_others: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Each sample's `count` tokens that are closest to a token of its other view, and those tokens: positions (B, count) in both views.

    near: (B, N, C), others: (B, K, C): what closeness (L2) is measured on, features or places; no gradient is needed. Every token is
    paired with its nearest of the other view, and the pairs of least distance are kept, in the order of their positions in the first view.
    valid: (B, N) and valid_others: (B, K), which tokens there are, at least `count` of the first view in every sample.

    >>> first, second = nearest_pairs(torch.tensor([[[0.0], [5.0], [9.0]]]), torch.tensor([[[8.9], [0.1]]]), count=2)
    >>> first.tolist(), second.tolist()
    ([[0, 2]], [[1, 0]])
    """
    with torch.no_grad(), full_products(near.device):
        exactly = near.shape[2] <= 4  # places are few numbers, and as a rule some are equal
        distance = torch.cdist(full(near), full(others), compute_mode=EXACT if exactly else FAST)
        if valid_others is not None:
            distance = distance.masked_fill(~valid_others[:, None], float("inf"))
        least, partner = distance.min(2)
        if valid is not None:
            least = least.masked_fill(~valid, float("inf"))
        kept = least.topk(count, dim=1, largest=False).indices.sort(1).values
        return kept, partner.take_along_dim(kept, 1)


def pair_terms(x: Tensor, y: Tensor) -> Terms:
    """VICReg's terms of pairs of tokens, before weighting: "invariance", "variance" and "covariance", means over both sides and all slots.

    x, y: (M, S, D): pair s of sample i is x[i, s] and y[i, s]. Variances and covariances are those of one slot over the samples. The
    covariance is half of what VICReg sums over its two views.

    >>> {name: round(float(term), 4) for name, term in pair_terms(torch.ones(4, 2, 3), torch.ones(4, 2, 3)).items()}
    {'invariance': 0.0, 'variance': 0.99, 'covariance': 0.0}
    """
    variance, covariance = spread_terms(torch.cat([x, y], dim=1).transpose(0, 1))
    return {"invariance": mse_loss(full(x), full(y)), "variance": variance, "covariance": covariance}


def global_terms(rows: Sequence[Tensor], whole: int) -> Terms:
    """VICReg's terms of several views of whole samples, before weighting.

    rows: (M, D) for each view, the first `whole` of them seen whole. "invariance" is the mean over ordered pairs of a view that is seen
    whole and any other; "variance" and "covariance" are means over views, so of two views the covariance is half of VICReg's.

    >>> {name: round(float(term), 4) for name, term in global_terms([torch.ones(4, 3)] * 2, whole=2).items()}
    {'invariance': 0.0, 'variance': 0.99, 'covariance': 0.0}
    """
    variance, covariance = spread_terms(torch.stack(list(rows)))
    invariance = [(times, {"invariance": mse_loss(full(rows[i]), full(rows[j]))}) for i, j, times in view_pairs(len(rows), whole)]
    return {**_mean(invariance), "variance": variance, "covariance": covariance}


def view_pairs(views: int, whole: int) -> list[tuple[int, int, int]]:
    """Pairs of views i < j with i seen whole, and how many ordered pairs (one seen whole, any other) each stands for.

    >>> view_pairs(3, whole=2)
    [(0, 1, 2), (0, 2, 1), (1, 2, 1)]
    """
    return [(i, j, 2 if j < whole else 1) for i, j in combinations(range(views), 2) if i < whole]


@dataclass(frozen=True, slots=True)
class TokenMap:
    """A view's tokens, ready to be matched.

    features: (B, N, D) projections. places: (B, N, C) in the sample. count: how many of them are kept in a match. valid: (B, N), which
    there are, where lengths differ.
    """

    features: Tensor
    places: Tensor
    count: int
    valid: Tensor | None = None


def both_ways(a: TokenMap, b: TokenMap) -> Iterator[Terms]:
    """`pair_terms` over all ranks of the matches by features and of those by places, from a to b and from b to a.

    >>> views = [TokenMap(torch.randn(6, 9, 4), torch.rand(6, 9, 2), count=3) for _ in range(2)]
    >>> len(list(both_ways(*views)))
    4
    """
    for near, other in ((a, b), (b, a)):
        for kind in ("features", "places"):
            kept, partner = nearest_pairs(getattr(near, kind), getattr(other, kind), near.count, near.valid, other.valid)
            x, y = near.features.take_along_dim(kept[..., None], 1), other.features.take_along_dim(partner[..., None], 1)
            yield pair_terms(gather_rows(x), gather_rows(y))


class VICRegL(Objective):
    """Objective over the tokens of two or more views; owns the projectors of rows and of tokens.

    The views that are seen whole come first, then local ones. Tokens are matched twice: by their projections, and by the places that they
    show in the sample (`Encoding.coordinates` and the view's "box"). Every match of a pair of views goes both ways.

    dim: width of the encoder's rows and tokens. width, local_width: of the three layers of the projectors of rows and of tokens. alpha:
    weight of the rows' loss, beside 1 - alpha of the tokens' (0.9 serves ConvNeXt). matches, local_matches: how many tokens of a view that
    is seen whole, and of a local one, are kept; all of them where there are fewer. invariance, variance, covariance: weights of VICReg's
    terms.

    Raises UserError when tokens come without coordinates, or when a sample has no token.
    """

    needs = Needs(views=2, tokens=True, couples_rows=True)
    tags = ("information maximisation",)

    def __init__(
        self,
        dim: int,
        *,
        width: int = 8192,
        local_width: int = 512,
        alpha: float = 0.75,
        matches: int = 20,
        local_matches: int = 4,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        super().__init__()
        self.project = projector(dim, width, width, width)
        self.project_tokens = projector(dim, local_width, local_width, local_width)
        self.alpha, self.matches, self.local_matches = alpha, matches, local_matches
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}

    def forward(self, step: Step) -> Losses:
        whole = len(step.seen_whole)
        rows = [gather_rows(self.project(step.encode(view).rows)) for view in step.crops]
        if len(rows[0]) < 2:
            raise UserError("VICRegL needs at least two rows to have a variance, and the batch has one; make the batch larger")
        terms = {name: self.alpha * term for name, term in global_terms(rows, whole).items()}
        local = {f"local_{name}": (1 - self.alpha) * term for name, term in self._local_terms(step, whole).items()}
        return Losses({name: self.weights[name.removeprefix("local_")] * term for name, term in {**terms, **local}.items()})

    def collapse_line(self, rows: int) -> float:
        return 0.99 * self.weights["variance"] * (self.alpha + 2 * (1 - self.alpha))

    def _local_terms(self, step: Step, whole: int) -> Terms:
        """Terms of matches by features and of matches by places, summed; each a mean over pairs of views and both directions."""
        maps = [self._map(step, view, self.matches if position < whole else self.local_matches) for position, view in enumerate(step.crops)]
        matched = [(times, terms) for i, j, times in view_pairs(len(maps), whole) for terms in both_ways(maps[i], maps[j])]
        return {name: 2 * term for name, term in _mean(matched).items()}

    def _map(self, step: Step, view: View, count: int) -> TokenMap:
        encoding = step.encode(view)
        tokens, places, valid = encoding.tokens, encoding.coordinates, encoding.valid
        assert tokens is not None
        if places is None:
            raise UserError(
                "VICRegL matches tokens by the places that they show, and the encoder names none; let its encoding have coordinates"
            )
        least = tokens.shape[1] if valid is None else int(gather_rows(valid.sum(1)).min())
        if least < 1:
            raise UserError("VICRegL matches tokens, and a sample of the batch has none; leave empty samples out")
        box = None if view.params is None else view.params.get("box")
        return TokenMap(self._projected(tokens, valid), in_sample(places, box), min(count, least), valid)

    def _projected(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """Projections (B, N, local_width) of the tokens that there are, and 0 elsewhere; the rest has no say in batch norm."""
        if valid is None:
            return self.project_tokens(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        rows = self.project_tokens(tokens[valid])
        return rows.new_zeros(*tokens.shape[:2], rows.shape[1]).index_put((valid,), rows)


def _mean(weighted: Sequence[tuple[int, Terms]]) -> Terms:
    """The weighted mean of each term."""
    total = sum(weight for weight, _ in weighted)
    return {name: torch.stack([weight * terms[name] for weight, terms in weighted]).sum() / total for name in weighted[0][1]}
