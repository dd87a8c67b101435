"""The losses that this library shares with lightly and stable-pretraining, by the names of our objectives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shared_losses import contrastive, distillation, information
from shared_losses.case import Case

CASES: dict[str, Callable[[], Iterator[Case]]] = {
    make.__name__: make
    for make in (
        *(information.barlow_twins, information.vicreg, information.vicregl, information.tico, information.w_mse, information.lejepa),
        *(contrastive.simclr, contrastive.dcl, contrastive.align_uniform, contrastive.moco_v2, contrastive.moco_v3, contrastive.nnclr),
        *(distillation.byol, distillation.simsiam, distillation.swav, distillation.sinkhorn_alone, distillation.dino),
        *(distillation.koleo, distillation.ibot, distillation.msn, distillation.masked_reconstruction),
    )
}
