"""Losses that predict a teacher, an assignment or what was hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.objectives.byol import byol_loss
from anyview.objectives.dino import Centre, dino_loss, koleo_loss, teacher_targets
from anyview.objectives.ibot import hidden_token_loss
from anyview.objectives.masked_reconstruction import reconstruction_loss, standardised
from anyview.objectives.msn import msn_targets, msn_terms
from anyview.objectives.simsiam import simsiam_loss
from anyview.objectives.sinkhorn import sinkhorn
from anyview.objectives.swav import swav_loss
from shared_losses.case import LIGHTLY, STABLE, Case, Form, Theirs, fixed, rows
from shared_losses.libraries import library


def byol() -> Iterator[Case]:
    cosine, stable = library("lightly.loss").NegativeCosineSimilarity(), library("stable_pretraining.losses").BYOLLoss
    why = "the negative cosine: half of the squared distance, less 1"
    theirs = [
        Theirs(LIGHTLY, fixed(cosine), why, (fixed(byol_loss), fixed(lambda a, b: 2 + 2 * cosine(a, b)))),
        Theirs(STABLE, stable),
    ]
    for width in (256, 8192):
        prediction, target = rows(256, width)
        yield Case("byol, one order", f"M 256, D {width}", (prediction, target.detach()), fixed(byol_loss), theirs)


def simsiam() -> Iterator[Case]:
    names = {LIGHTLY: "lightly.loss", STABLE: "stable_pretraining.losses"}
    theirs = [Theirs(name, library(module).NegativeCosineSimilarity) for name, module in names.items()]
    prediction, target = rows(256, 2048)
    yield Case("simsiam, one order", "M 256, D 2048", (prediction, target.detach()), fixed(simsiam_loss), theirs)


def swav() -> Iterator[Case]:
    for count, prototypes in ((256, 256), (256, 3000), (1024, 3000)):
        weight = normalize(torch.randn(prototypes, 128), dim=1)
        yield Case("swav", f"M {count}, D 128, K {prototypes}", rows(count, 128), *_swav_forms(weight))


def _swav_forms(weight: Tensor) -> tuple[Callable[[], Form], list[Theirs]]:
    def scores(z1: Tensor, z2: Tensor) -> list[Tensor]:
        return [normalize(z, dim=1) @ weight.T for z in (z1, z2)]

    def ours(z1: Tensor, z2: Tensor) -> Tensor:
        both = scores(z1, z2)
        return swav_loss(both, [sinkhorn(score) for score in both])

    def joint(z1: Tensor, z2: Tensor) -> Tensor:
        both = scores(z1, z2)
        return swav_loss(both, list(sinkhorn(torch.cat(both)).chunk(2)))

    def lightly() -> Form:
        module = library("lightly.loss").SwaVLoss()
        return lambda z1, z2: module(scores(z1, z2), []).squeeze()

    def stable() -> Form:
        module, linear = library("stable_pretraining.losses").SwAVLoss(), nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.data.copy_(weight)
        return lambda z1, z2: module(z1, z2, linear.requires_grad_(False))

    why = "assigns the rows of both views in one Sinkhorn; the paper's assigns each view's by itself"
    return fixed(ours), [Theirs(LIGHTLY, lightly), Theirs(STABLE, stable, why, (fixed(joint), stable))]


def sinkhorn_alone() -> Iterator[Case]:
    theirs = [
        Theirs(LIGHTLY, fixed(library("lightly.loss.swav_loss").sinkhorn)),
        Theirs(STABLE, lambda: library("stable_pretraining.losses").SwAVLoss().sinkhorn),
    ]
    for count, prototypes in ((256, 3000), (4096, 3000)):
        scores = normalize(torch.randn(count, 128), dim=1) @ normalize(torch.randn(prototypes, 128), dim=1).T
        yield Case("sinkhorn (forward)", f"M {count}, K {prototypes}", (scores,), fixed(sinkhorn), theirs)


def dino() -> Iterator[Case]:
    for count, prototypes, crops in ((64, 4096, 8), (16, 65536, 8)):
        teacher = torch.rand(2, count, prototypes) * 2 - 1
        student = (torch.rand(crops, count, prototypes) * 2 - 1).requires_grad_()
        size = f"M {count}, K {prototypes}, {crops} crops"
        yield Case("dino", size, (student, teacher), *_dino_forms(prototypes))


def _dino_forms(prototypes: int) -> tuple[Callable[[], Form], list[Theirs]]:
    def ours() -> Form:
        centre = Centre(prototypes)

        def loss(student: Tensor, teacher: Tensor) -> Tensor:
            value = dino_loss([teacher_targets(output, centre.value, 0.04) for output in teacher], student.unbind())
            centre.follow(teacher.mean((0, 1)))
            return value

        return loss

    def lightly() -> Form:
        module = library("lightly.loss").DINOLoss(prototypes)
        return lambda student, teacher: module(teacher.unbind(), student.unbind(), teacher_temp=0.04)

    def stable() -> Form:
        module = library("stable_pretraining.losses").DINOv1Loss()

        def loss(student: Tensor, teacher: Tensor) -> Tensor:
            value = module(student, module.softmax_center_teacher(teacher, 0.04))
            module.update_center(teacher)
            return value

        return loss

    def row_by_row(make: Callable[[], Form]) -> Callable[[], Form]:
        def loss(student: Tensor, teacher: Tensor) -> Tensor:
            rows = zip(student.split(1, 1), teacher.split(1, 1), strict=True)
            return torch.stack([make()(*row) for row in rows]).mean()

        return fixed(loss)

    why = "sums M·K products of two views in one float32 number, and rounds more; here each row is summed by itself"
    theirs = {LIGHTLY: lightly, STABLE: stable}
    return ours, [Theirs(name, make, why, (ours, row_by_row(make))) for name, make in theirs.items()]


def koleo() -> Iterator[Case]:
    (features,) = rows(256, 384, of=1)
    yield Case("koleo (of DINOv2)", "M 256, D 384", (features,), fixed(koleo_loss), [Theirs(LIGHTLY, library("lightly.loss").KoLeoLoss)])


def ibot() -> Iterator[Case]:
    hidden = torch.rand(32, 7, 7) < torch.rand(32, 1, 1) * 0.6
    count = int(hidden.sum())
    student, teacher = (torch.rand(count, 8192) * 2 - 1).requires_grad_(), torch.rand(count, 8192) * 2 - 1

    def ours() -> Form:
        centre = Centre(8192)

        def loss(student: Tensor, teacher: Tensor) -> Tensor:
            value = hidden_token_loss(teacher_targets(teacher, centre.value, 0.04), student, hidden.flatten(1))
            centre.follow(teacher.mean(0))
            return value

        return loss

    def lightly() -> Form:
        module = library("lightly.loss").IBOTPatchLoss(8192)
        return lambda student, teacher: module(teacher, student, hidden)

    def stable() -> Form:
        module = library("stable_pretraining.losses").iBOTPatchLoss()
        return lambda student, teacher: module(student, module.sinkhorn_knopp_teacher(teacher, 0.04, count))

    def ours_by_token(student: Tensor, teacher: Tensor) -> Tensor:
        return hidden_token_loss(sinkhorn(teacher, 0.04), student, torch.ones(count, 1, dtype=torch.bool))

    why = "DINOv2's form: Sinkhorn in place of the centre, and a mean over the batch's hidden tokens, not over samples"
    theirs = [Theirs(LIGHTLY, lightly), Theirs(STABLE, stable, why, (fixed(ours_by_token), stable))]
    yield Case("ibot, hidden tokens", f"32 samples, {count} of 1568 tokens, K 8192", (student, teacher), ours, theirs)


def msn() -> Iterator[Case]:
    first, second, target = rows(256, 256, of=3)
    prototypes = torch.randn(1024, 256, requires_grad=True)

    def ours(prior: float | None) -> Form:
        def loss(first: Tensor, second: Tensor, target: Tensor, prototypes: Tensor) -> Tensor:
            directions = normalize(prototypes, dim=1)
            anchors = [normalize(z, dim=1) @ directions.T for z in (first, second)]
            terms = msn_terms(anchors, msn_targets(normalize(target, dim=1) @ directions.T), prior=prior)
            return terms["assignment"] + terms["prior"]

        return loss

    def theirs(name: str) -> Callable[[], Form]:
        def make() -> Form:
            module = getattr(library("lightly.loss"), name)()
            return lambda first, second, target, prototypes: module(torch.cat([first, second]), target, prototypes)

        return make

    inputs, size = (first, second, target.detach(), prototypes), "M 256, 2 anchors, D 256, K 1024"
    yield Case("msn", size, inputs, fixed(ours(None)), [Theirs(LIGHTLY, theirs("MSNLoss"))])
    yield Case("msn, power-law prior", size, inputs, fixed(ours(0.25)), [Theirs(LIGHTLY, theirs("PMSNLoss"))])


def masked_reconstruction() -> Iterator[Case]:
    target, prediction = torch.randn(64, 196, 256), torch.randn(64, 196, 256, requires_grad=True)
    mask = torch.rand(64, 196).argsort(1) < 147
    hidden = mask.flatten().nonzero().flatten()

    def ours(prediction: Tensor, target: Tensor) -> Tensor:
        guessed, told = (tokens.flatten(0, 1).index_select(0, hidden) for tokens in (prediction, target))
        return reconstruction_loss(guessed, standardised(told))

    def stable(prediction: Tensor, target: Tensor) -> Tensor:
        return library("stable_pretraining.losses").mae(target, prediction, mask.float(), norm_pix_loss=True)

    yield Case("masked_reconstruction", "B 64, N 196, P 256", (prediction, target), fixed(ours), [Theirs(STABLE, fixed(stable))])
