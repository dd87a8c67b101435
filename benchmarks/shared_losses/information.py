"""Losses on the moments and the distribution of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from anyview.objectives.barlow_twins import barlow_twins_loss
from anyview.objectives.gram import off_diagonal
from anyview.objectives.lejepa import lejepa_terms, sigreg
from anyview.objectives.tico import second_moment, tico_terms
from anyview.objectives.vicreg import vicreg_loss
from anyview.objectives.vicregl import TokenMap, both_ways, global_terms, pair_terms
from anyview.objectives.w_mse import w_mse_loss, whiten
from shared_losses.case import LIGHTLY, STABLE, Case, Form, Theirs, fixed, of_rows, rows
from shared_losses.libraries import library


def barlow_twins() -> Iterator[Case]:
    lightly, stable = library("lightly.loss").BarlowTwinsLoss, library("stable_pretraining.losses").BarlowTwinsLoss

    def with_their_columns(a: Tensor, b: Tensor) -> Tensor:
        off, diagonal = off_diagonal(stable._normalize(a), stable._normalize(b))
        return (diagonal / len(a) - 1).square().sum() + 0.0051 * off / len(a) ** 2

    why = "divides columns by their unbiased deviation plus 1e-5, ours by the root of their biased variance plus 1e-5"
    theirs = [
        Theirs(LIGHTLY, lambda: lightly(0.0051)),
        Theirs(STABLE, lambda: stable(0.0051), why, (fixed(with_their_columns), lambda: stable(0.0051))),
    ]
    for width in (256, 512, 2048, 8192):
        yield Case("barlow_twins", f"M 256, D {width}", rows(256, width), fixed(barlow_twins_loss), theirs)


def vicreg() -> Iterator[Case]:
    theirs = [Theirs(LIGHTLY, library("lightly.loss").VICRegLoss), Theirs(STABLE, library("stable_pretraining.losses").VICRegLoss)]
    for width in (256, 512, 2048, 8192):
        yield Case("vicreg", f"M 256, D {width}", rows(256, width), fixed(vicreg_loss), theirs)


def vicregl() -> Iterator[Case]:
    inputs = (*rows(64, 1024), *rows(64, 49, 256))
    places = [torch.rand(64, 49, 2) for _ in range(2)]

    def ours(a: Tensor, b: Tensor, map_a: Tensor, map_b: Tensor) -> Tensor:
        return _vicregl(a, b, list(both_ways(TokenMap(map_a, places[0], 20), TokenMap(map_b, places[1], 20))))

    def ours_with_their_matches(a: Tensor, b: Tensor, map_a: Tensor, map_b: Tensor) -> Tensor:
        nearest = library("lightly.models.utils").nearest_neighbors
        ways = ((map_a, map_b, places), (map_b, map_a, places[::-1]))
        matched = [
            nearest(own, other, distances, count)
            for own, other, where in ways
            for distances in (torch.cdist(own, other), torch.cdist(where[0], where[1]))
            for count in (20, 4)
        ]
        return _vicregl(a, b, [pair_terms(*pair) for pair in matched])

    def lightly() -> Form:
        module = library("lightly.loss").VICRegLLoss()
        grids = [place.unflatten(1, (7, 7)) for place in places]
        return lambda a, b, *maps: module([(z, tokens.unflatten(1, (7, 7))) for z, tokens in zip((a, b), maps, strict=True)], grids)[0]

    why = (
        "keeps 20 matches of a pair's first view and 4 of its second even where both are seen whole, and numbers a sample's matches, whose "
        "slots have the variances, by distance; ours keeps 20 of each and numbers them by place, as the authors' code does"
    )
    theirs = [Theirs(LIGHTLY, lightly, why, (fixed(ours_with_their_matches), lightly))]
    yield Case("vicregl", "M 64, D 1024; 49 tokens, D 256", inputs, fixed(ours), theirs)


def _vicregl(a: Tensor, b: Tensor, local: list[dict[str, Tensor]]) -> Tensor:
    """The objective's weighted sum, of rows and of the terms of every match of tokens."""
    whole, weights = global_terms([a, b], 2), {"invariance": 25, "variance": 25, "covariance": 1}
    matched = {name: 2 * torch.stack([terms[name] for terms in local]).mean() for name in weights}
    return torch.stack([weights[name] * (0.75 * whole[name] + 0.25 * matched[name]) for name in weights]).sum()


def tico() -> Iterator[Case]:
    for width in (256, 2048):
        first, second = rows(256, width)
        yield Case("tico", f"M 256, D {width}", (first, second.detach()), *_tico_forms(width))


def _tico_forms(width: int) -> tuple[Callable[[], Form], list[Theirs]]:
    def ours() -> Form:
        moment = torch.zeros(width, width)

        def loss(first: Tensor, second: Tensor) -> Tensor:
            moment.lerp_(second_moment(first), 0.1)
            terms = tico_terms(first, second, moment)
            return terms["invariance"] + 8 * terms["contrast"]

        return loss

    def stable() -> Form:
        method = of_rows("tico", "TiCO", width)
        return lambda first, second: method(first, second).loss

    def ours_with_their_matrix(first: Tensor, second: Tensor) -> Tensor:
        unit = torch.cat([normalize(z.detach(), dim=1) for z in (first, second)])
        terms = tico_terms(first, second, 0.1 * unit.T.cov())
        return 2 * terms["invariance"] + 20 * terms["contrast"]

    why = "twice the invariance, weight 20, and a matrix of centred covariances of both views where the paper has second moments of one"
    stable_form = Theirs(STABLE, stable, why, (fixed(ours_with_their_matrix), stable))
    return ours, [Theirs(LIGHTLY, library("lightly.loss").TiCoLoss), stable_form]


def w_mse() -> Iterator[Case]:
    def ours(first: Tensor, second: Tensor) -> Tensor:
        torch.manual_seed(0)
        return w_mse_loss([first, second], torch.randperm(len(first)))

    def lightly() -> Form:
        module = library("lightly.loss").WMSELoss(embedding_dim=64, w_size=128)

        def loss(first: Tensor, second: Tensor) -> Tensor:
            torch.manual_seed(0)
            return module(torch.cat([first, second]))

        return loss

    def stable() -> Form:
        method = of_rows("wmse", "WMSE", 64)
        return lambda first, second: method(first, second).loss

    def ours_whitened_together(first: Tensor, second: Tensor) -> Tensor:
        a, b = normalize(whiten(torch.cat([first, second])), dim=1).chunk(2)
        return (2 - 2 * (a * b).sum(1)).mean() / a.shape[1]

    why = "another loss: whitens all rows of both views at once by one symmetric root, without windows, and takes a mean over columns too"
    together = (fixed(ours_whitened_together), stable)
    theirs = [Theirs(LIGHTLY, lightly), Theirs(STABLE, stable, why, together, comparable=False)]
    yield Case("w_mse", "M 256, D 64, windows of 128", rows(256, 64), fixed(ours), theirs)


def lejepa() -> Iterator[Case]:
    views = rows(128, 256, of=4)

    def ours(*views: Tensor) -> Tensor:
        torch.manual_seed(0)
        terms = lejepa_terms(views, 2, torch.randn(256, 1024))
        return 0.95 * terms["invariance"] + 0.05 * terms["normality"]

    def lightly() -> Form:
        module = library("lightly.loss").LeJEPALoss()

        def loss(*views: Tensor) -> Tensor:
            torch.manual_seed(0)
            return module(global_proj=torch.stack(views[:2]), local_proj=torch.stack(views[2:]))

        return loss

    def stable() -> Form:
        methods = library("stable_pretraining.methods.lejepa")
        test = methods.SlicedEppsPulley()
        return lambda *views: methods.LeJEPA._compute_loss(torch.stack(views), 2, test, 0.02)[0]

    def ours_pooled(*views: Tensor) -> Tensor:
        directions = torch.randn(256, 1024, generator=torch.Generator().manual_seed(0))
        terms = lejepa_terms(views, 2, directions)
        return terms["invariance"] + 0.02 * sigreg(torch.cat(views), directions)

    why = "tests the rows of all views as one sample, which multiplies the statistic's factor M by the views; weights 1 and 0.02"
    theirs = [Theirs(LIGHTLY, lightly), Theirs(STABLE, stable, why, (fixed(ours_pooled), stable))]
    yield Case("lejepa", "M 128, 2 + 2 views, D 256, 1024 directions", views, fixed(ours), theirs)
