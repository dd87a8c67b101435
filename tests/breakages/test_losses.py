"""Places where simple designs break, by number: losses, gradients and ranks (12, 14, 15, 16)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import anyview
from anyview.combiners.mgda import MGDA
from anyview.data.arrays import ArraySource
from anyview.encoders.norm import BatchNorm
from anyview.objectives.barlow_twins import BarlowTwins, barlow_twins_loss
from anyview.objectives.byol import BYOL, byol_loss
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.vicreg import VICReg, vicreg_loss
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Recipe, Stage, Task
from anyview.testing import check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import TinyTokens, sgd, tiny_draws
from anyview.training import TrainingStoppedError, pretrain
from anyview.views.mask import MaskRows, MaskTokens, hide_tokens
from anyview.views.noise import NoisePair
from anyview.views.view import Mask
from tests.breakages.parts import LinearRows, Rebuild, tiny_recipe, train

# 12: differential privacy


@pytest.mark.parametrize(("objective", "couples"), [(BarlowTwins(8, width=8), True), (VICReg(8, width=8), True), (Rebuild(8), False)])
def test_12_objectives_say_whether_a_sample_has_a_gradient_of_its_own(objective: Objective, couples: bool) -> None:
    views = MaskTokens() if objective.needs.masks else NoisePair()
    encoder = TinyTokens(12, 8)
    stage = Stage([Task(views, objective)], encoder, epochs=1, optimizer=sgd)
    assert Recipe(ArraySource(torch.zeros(2, 2)), [stage], encoder).couples_rows is couples


def test_12_batch_norm_is_known_by_its_class() -> None:
    assert any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in BYOL(8, hidden=8, width=4).modules())


# 14: one backward per term, heads with gradients of their own


def test_14_heads_keep_their_own_weighted_gradients() -> None:
    def stage_of(combiner: MGDA | None) -> Stage:
        torch.manual_seed(0)
        encoder = LinearRows(12)
        views = NoisePair(0.3)
        tasks = [Task(views, VICReg(8, width=6)), Task(views, BarlowTwins(8, width=6))]
        return Stage(tasks, encoder, epochs=1, optimizer=sgd, combiner=combiner or MGDA())

    def gradients(name: str | None) -> tuple[dict[str, Tensor], dict[str, float]]:
        stage = stage_of(MGDA())
        pretrainer = Pretrainer(stage).train()
        losses = pretrainer.by_task(pretrainer(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 1)))
        weights: dict[str, float] = {}
        if name is None:
            weights = stage.combiner.backward(losses, list(stage.encoder.parameters()), torch.Tensor.backward, torch.Generator())
        else:
            losses[name].backward()
        return {n: p.grad for n, p in pretrainer.named_parameters() if p.grad is not None}, weights

    combined, weights = gradients(None)
    assert set(weights) == {"VICReg", "BarlowTwins"}
    assert sum(weights.values()) == pytest.approx(1.0)
    each = {name: gradients(name)[0] for name in weights}
    for name, gradient in combined.items():
        parts = [weights[task] * each[task][name] for task in weights if name in each[task]]
        assert len(parts) == (2 if name.startswith("encoder") else 1)
        torch.testing.assert_close(gradient, torch.stack(parts).sum(0), rtol=1e-4, atol=1e-6)


# 15: degenerate inputs


LOSSES = {"barlow_twins": barlow_twins_loss, "vicreg": vicreg_loss, "byol": byol_loss}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", ["a constant column", "all rows equal", "duplicates", "all nought"])
def test_15_degenerate_rows_give_finite_losses_and_gradients(name: str, case: str) -> None:
    a, b = torch.randn(2, 6, 9)
    if case == "a constant column":
        a[:, 0], b[:, 0] = 3.0, 3.0
    if case == "all rows equal":
        a[:], b[:] = a[0], b[0]
    if case == "duplicates":
        a[3:], b[3:] = a[:3], b[:3]
    if case == "all nought":
        a[:], b[:] = 0.0, 0.0
    a.requires_grad_()
    loss = LOSSES[name](a, b)
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(a.grad.isfinite().all())


def test_15_one_row_is_finite_or_a_clear_error() -> None:
    row = torch.randn(1, 4)
    assert float(barlow_twins_loss(row, row)) == 4.0
    assert float(byol_loss(row, row)) == pytest.approx(0.0, abs=1e-6)
    for refuse, phrase in ((lambda: vicreg_loss(row, row), "at least two rows"), (lambda: BatchNorm(4)(row), "more than one row")):
        with pytest.raises(ValueError, match=phrase):
            refuse()


@pytest.mark.parametrize(("rate", "hidden"), [(0.0, 0), (1.0, 12)])
def test_15_masks_that_hide_nothing_or_everything(rate: float, hidden: int) -> None:
    stage = tiny_stage(Rebuild, partial(MaskRows, rate))
    totals = train(Pretrainer(stage).train(), stage, tiny_batch(), 2)
    assert int(stage.tasks[0].objective.hidden[0].sum()) == hidden
    assert all(total == total for total in totals)
    mask = Mask(hide_tokens(tiny_draws(0, 3), 4, rate))
    assert mask.kept.shape == (3, 4 - round(rate * 4))
    assert mask.restore.tolist() == [[0, 1, 2, 3]] * 3


class Breaking(Objective):
    needs = Needs(views=2)

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, step: Step) -> Losses:
        rows = step.encode(step.views[0]).rows
        return Losses(calm=rows.square().mean(), wild=rows.mean() / (0.0 if step.number == 2 else 1.0))


def test_15_a_loss_that_leaves_the_finite_numbers_stops_the_run_by_name(tmp_path: Path) -> None:
    with pytest.raises(TrainingStoppedError, match=r"'wild' became .*inf at step 3"):
        pretrain(tiny_recipe(ArraySource(torch.randn(16, 12)), Breaking(8), epochs=5), tmp_path / "run")


# 16: several ranks


@pytest.mark.parametrize("make", [partial(BarlowTwins, width=20), partial(VICReg, width=20), partial(BYOL, hidden=12, width=6)])
def test_16_several_ranks_train_as_one(make: partial[Objective]) -> None:
    check_rank_exact(make, ranks=2, rows=10)


def test_16_one_process_needs_no_group() -> None:
    assert not torch.distributed.is_initialized()
    stage = tiny_stage(partial(BarlowTwins, width=8))
    assert len(train(Pretrainer(stage).train(), stage, tiny_batch(), 2)) == 2


def test_16_one_module_speaks_to_torch_distributed() -> None:
    """The checks that start processes and compare them are the only others."""
    package = Path(anyview.__file__).parent
    speakers = {
        path.relative_to(package)
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) torch\.distributed", path.read_text(), re.M)
    }
    assert speakers - {Path("testing/processes.py")} == {Path("distributed.py")}
