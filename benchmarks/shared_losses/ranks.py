"""Value and gradient of losses on two processes, each with half of the rows, against one process with all of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.distributed import gather_rows, rank, ranks
from anyview.objectives.barlow_twins import barlow_twins_loss
from anyview.objectives.lejepa import lejepa_terms
from anyview.objectives.simclr import simclr_loss
from anyview.objectives.sinkhorn import sinkhorn
from anyview.objectives.swav import swav_loss
from anyview.objectives.vicreg import vicreg_loss
from anyview.testing import run_on_ranks
from shared_losses.libraries import library

ROWS, FEATURES, WIDTH, PROTOTYPES = 64, 32, 16, 12
EXACT = 1e-4
OURS, GATHERED, LOCAL, STABLE = "anyview", "lightly, gathering", "lightly, default", "stable-pretraining"
Loss = Callable[[Tensor, Tensor, nn.Linear], Tensor]


def ours(loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """A loss of this library: of all ranks' rows, on every rank."""
    return lambda a, b, _: loss(gather_rows(a), gather_rows(b))


def of_library(module: str, name: str, **options: Any) -> Loss:
    """A library's loss of two views, made when the processes have met: some ask for the group in their constructor."""
    return lambda a, b, _: getattr(library(module), name)(**options)(a, b)


def our_swav(a: Tensor, b: Tensor, prototypes: nn.Linear) -> Tensor:
    """Scores of all ranks' rows."""
    scores = [prototypes(normalize(gather_rows(z), dim=1)) for z in (a, b)]
    return swav_loss(scores, [sinkhorn(score) for score in scores])


def lightly_swav(gather: bool) -> Loss:
    """Scores of one rank's rows; gather: sums of the assignment over ranks."""

    def loss(a: Tensor, b: Tensor, prototypes: nn.Linear) -> Tensor:
        scores = [prototypes(normalize(z, dim=1)) for z in (a, b)]
        return library("lightly.loss").SwaVLoss(sinkhorn_gather_distributed=gather)(scores, []).squeeze()

    return loss


def stable_swav(a: Tensor, b: Tensor, prototypes: nn.Linear) -> Tensor:
    """Assigns one rank's rows."""
    loss: Tensor = library("stable_pretraining.losses").SwAVLoss()(a, b, prototypes)
    return loss


def our_lejepa(a: Tensor, b: Tensor, _: nn.Linear) -> Tensor:
    """This rank's rows; directions that all ranks draw alike."""
    torch.manual_seed(1)
    terms = lejepa_terms([a, b], 1, torch.randn(WIDTH, 64))
    return 0.95 * terms["invariance"] + 0.05 * terms["normality"]


def lightly_lejepa(gather: bool) -> Loss:
    """gather: sums of the statistic over ranks."""

    def loss(a: Tensor, b: Tensor, _: nn.Linear) -> Tensor:
        torch.manual_seed(1)
        module = library("lightly.loss").LeJEPALoss(gather_distributed=gather, sigreg_num_vectors=64)
        return module(global_proj=a[None], local_proj=b[None])

    return loss


def stable_lejepa(a: Tensor, b: Tensor, _: nn.Linear) -> Tensor:
    """Made when the processes have met, which it asks for in its constructor."""
    methods = library("stable_pretraining.methods.lejepa")
    loss: Tensor = methods.LeJEPA._compute_loss(torch.stack([a, b]), 1, methods.SlicedEppsPulley(64), 0.02)[0]
    return loss


def table() -> dict[tuple[str, str], Loss]:
    """Every loss that is tried, by objective and library, with equal weights and temperatures."""
    losses: dict[tuple[str, str], Loss] = {}
    stateless: list[tuple[str, Callable[[Tensor, Tensor], Tensor], str, str, dict[str, float]]] = [
        ("barlow_twins", partial(barlow_twins_loss, redundancy=0.005), "BarlowTwinsLoss", "BarlowTwinsLoss", {}),
        ("simclr", partial(simclr_loss, temperature=0.1), "NTXentLoss", "NTXEntLoss", {"temperature": 0.1}),
        ("vicreg", vicreg_loss, "VICRegLoss", "VICRegLoss", {}),
    ]
    for name, loss, lightly, stable, options in stateless:
        losses[name, OURS] = ours(loss)
        losses[name, GATHERED] = of_library("lightly.loss", lightly, gather_distributed=True, **options)
        losses[name, LOCAL] = of_library("lightly.loss", lightly, **options)
        losses[name, STABLE] = of_library("stable_pretraining.losses", stable, **options)
    for name, *forms in (
        ("swav", our_swav, lightly_swav(gather=True), lightly_swav(gather=False), stable_swav),
        ("lejepa", our_lejepa, lightly_lejepa(gather=True), lightly_lejepa(gather=False), stable_lejepa),
    ):
        losses |= dict(zip([(name, kind) for kind in (OURS, GATHERED, LOCAL, STABLE)], forms, strict=True))
    return losses


LOSSES = table()


def gradient(key: tuple[str, str]) -> tuple[float, Tensor]:
    """This loss, a mean over ranks, and its gradient as DistributedDataParallel averages it, of one linear encoder (and prototypes)."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # both libraries gather by functions that torch is about to drop
    torch.manual_seed(0)
    encoder, prototypes = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, PROTOTYPES, bias=False)
    prototypes.weight.data.copy_(normalize(prototypes.weight.data, dim=1))
    x = torch.randn(ROWS, FEATURES)
    views = [x + 0.5 * torch.randn(ROWS, FEATURES) for _ in range(2)]
    own = slice(rank() * ROWS // ranks(), (rank() + 1) * ROWS // ranks())
    a, b = (encoder(view[own]) for view in views)
    loss = LOSSES[key](a, b, prototypes)
    loss.backward()
    parts = [parameter.grad for module in (encoder, prototypes) for parameter in module.parameters()]
    flat = torch.cat([part.flatten() for part in parts if part is not None])
    return float(averaged(loss.detach())), averaged(flat)


def averaged(value: Tensor) -> Tensor:
    """The mean over ranks."""
    if ranks() > 1:
        dist.all_reduce(value)
    return value / ranks()


def rank_exactness(count: int = 2) -> list[dict[str, Any]]:
    """For every loss: its value on one process and on `count`, and norm ratio and cosine of the two gradients."""
    lines = []
    for key in LOSSES:
        one, whole = gradient(key)
        two, parts = run_on_ranks(gradient, count, key)[0]
        ratio, cosine = float(parts.norm() / whole.norm()), float(parts @ whole / (parts.norm() * whole.norm()))
        error = max(abs(two - one) / abs(one), float((parts - whole).norm() / whole.norm()))
        line = {"objective": key[0], "library": key[1], "one": one, "two": two, "ratio": ratio, "cosine": cosine}
        lines.append({**line, "error": error, "exact": error < EXACT})
    return lines
