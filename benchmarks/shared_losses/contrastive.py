"""Contrastive losses, with and without a queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from anyview.objectives.align_uniform import alignment, uniformity
from anyview.objectives.dcl import dcl_loss
from anyview.objectives.moco_v2 import moco_v2_loss
from anyview.objectives.moco_v3 import moco_v3_loss
from anyview.objectives.nnclr import nnclr_loss
from anyview.objectives.simclr import simclr_loss
from shared_losses.case import LIGHTLY, STABLE, Case, Form, Pushed, Theirs, fixed, of_rows, rows
from shared_losses.libraries import library


def simclr() -> Iterator[Case]:
    lightly, stable = library("lightly.loss").NTXentLoss, library("stable_pretraining.losses").NTXEntLoss
    theirs = [Theirs(LIGHTLY, lambda: lightly(0.1)), Theirs(STABLE, lambda: stable(0.1))]
    for count in (256, 1024):
        yield Case("simclr", f"M {count}, D 128", rows(count, 128), fixed(simclr_loss), theirs)


def dcl() -> Iterator[Case]:
    losses = library("lightly.loss")
    yield Case("dcl", "M 256, D 128", rows(256, 128), fixed(dcl_loss), [Theirs(LIGHTLY, losses.DCLLoss)])
    yield Case("dcl", "M 1024, D 128", rows(1024, 128), fixed(dcl_loss), [Theirs(LIGHTLY, losses.DCLLoss)])
    weighted = fixed(lambda a, b: dcl_loss(a, b, weighted=True))
    yield Case("dcl, weighted", "M 256, D 128", rows(256, 128), weighted, [Theirs(LIGHTLY, losses.DCLWLoss)])


def align_uniform() -> Iterator[Case]:
    hypersphere = library("lightly.loss.hypersphere_loss").HypersphereLoss
    ours = fixed(lambda a, b: alignment(a, b) + (uniformity(a) + uniformity(b)) / 2)
    for count in (256, 1024):
        yield Case("align_uniform", f"M {count}, D 128", rows(count, 128), ours, [Theirs(LIGHTLY, lambda: hypersphere(t=2.0))])


def moco_v2() -> Iterator[Case]:
    for size in (4096, 65536):
        queries, keys = rows(256, 128)
        forms = _moco_v2_forms(normalize(torch.randn(size, 128), dim=1))
        yield Case("moco_v2", f"M 256, D 128, queue {size}", (queries, keys.detach()), *forms)


def _moco_v2_forms(bank: Tensor) -> tuple[Callable[[], Form], list[Theirs]]:
    def ours() -> Form:
        queue = Pushed(bank)
        return lambda queries, keys: moco_v2_loss(queries, keys, queue.now(keys))

    def lightly() -> Form:
        module = library("lightly.loss").NTXentLoss(0.2, memory_bank_size=tuple(bank.shape))
        module.memory_bank.bank.copy_(bank)
        return module

    def stable() -> Form:
        method = of_rows("mocov2", "MoCov2", 128, bank)
        return lambda queries, keys: method(queries, keys).loss

    def pushed_first(queries: Tensor, keys: Tensor) -> Tensor:
        queue = Pushed(bank)
        queue.now(keys)
        return moco_v2_loss(queries, keys, queue.now(keys[:0]))

    why = "pushes the batch's keys before the loss, so that each positive is among its negatives too"
    return ours, [Theirs(LIGHTLY, lightly), Theirs(STABLE, stable, why, (fixed(pushed_first), stable))]


def moco_v3() -> Iterator[Case]:
    def mean_of_both(a: Tensor, b: Tensor, keys_a: Tensor, keys_b: Tensor) -> Tensor:
        info_nce = library("stable_pretraining.methods.mocov3")._info_nce
        return (info_nce(a, keys_b, 0.2) + info_nce(b, keys_a, 0.2)) / 2

    def ours(a: Tensor, b: Tensor, keys_a: Tensor, keys_b: Tensor) -> Tensor:
        return moco_v3_loss(a, keys_b) + moco_v3_loss(b, keys_a)

    def scaled(*inputs: Tensor) -> Tensor:
        return 4 * 0.2 * mean_of_both(*inputs)

    why = "the mean of both directions; the paper's is their sum, times twice the temperature"
    theirs = [Theirs(STABLE, fixed(mean_of_both), why, (fixed(ours), fixed(scaled)))]
    for count in (256, 1024):
        queries, keys = rows(count, 256), tuple(key.detach() for key in rows(count, 256))
        yield Case("moco_v3", f"M {count}, D 256", (*queries, *keys), fixed(ours), theirs)


def nnclr() -> Iterator[Case]:
    bank = normalize(torch.randn(16384, 256), dim=1)
    lightly_xent = library("lightly.loss").NTXentLoss(0.1)

    def ours() -> Form:
        queue = Pushed(bank)

        def loss(z1: Tensor, z2: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
            return nnclr_loss((queue.nearest(z1, then_push=z1), queue.nearest(z2)), (p1, p2))

        return loss

    def lightly() -> Form:
        nearest = library("lightly.models.modules").NNMemoryBankModule(tuple(bank.shape))
        nearest.bank.copy_(bank)

        def loss(z1: Tensor, z2: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
            n2, n1 = nearest(z2, update=False), nearest(z1, update=True)
            return 0.5 * (lightly_xent(n1, p2) + lightly_xent(n2, p1))

        return loss

    def stable() -> Form:
        method = of_rows("nnclr", "NNCLR", 256, bank)
        del method.predictor

        def loss(z1: Tensor, z2: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
            predictions = iter((p1, p2))
            method.predictor = lambda _: next(predictions)
            return method(z1, z2).loss

        return loss

    def as_nt_xent(z1: Tensor, z2: Tensor, p1: Tensor, p2: Tensor, push_first: bool = False) -> Tensor:
        queue = Pushed(bank)
        if push_first:
            queue.queue.push(z1)
        n1, n2 = queue.nearest(z1), queue.nearest(z2)
        return (simclr_loss(n1, p2) + simclr_loss(n2, p1)) / 2

    why = "NT-Xent among the rows of neighbours and predictions, both ways; the paper's is among predictions alone, one way"
    pushes = "pushes the first view's rows before it looks neighbours up, so that each of them finds itself"
    theirs = [
        Theirs(LIGHTLY, lightly, why, (fixed(as_nt_xent), lightly)),
        Theirs(STABLE, stable, f"{why}; and {pushes}", (fixed(partial(as_nt_xent, push_first=True)), stable)),
    ]
    z1, z2, p1, p2 = rows(256, 256, of=4)
    yield Case("nnclr", "M 256, D 256, queue 16384", (z1.detach(), z2.detach(), p1, p2), ours, theirs)
