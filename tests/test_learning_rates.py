"""Parameter groups follow schedules of their own, in training and after a stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from anyview.encoders.encoder import Streams
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.folder import RunFolder
from anyview.learning_rates import LearningRates, ParameterGroup
from anyview.objectives.simsiam import SimSiam
from anyview.schedules import Constant, Cosine, Linear
from anyview.training import pretrain
from tests.small_runs import SGD, assert_same_bits, recipe, rows, stop_at

STEPS = 9


def layers(count: int) -> list[nn.Linear]:
    return [nn.Linear(2, 2) for _ in range(count)]


def rates_of(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> list[float]:
    found = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    return [found[id(parameter)] for parameter in parameters]


def test_an_optimiser_s_own_groups_are_split_and_keep_their_options() -> None:
    body, head, other = layers(3)
    options = [{"params": [body.weight, head.weight, other.weight], "lr": 0.1, "weight_decay": 0.5}, {"params": [body.bias, head.bias]}]
    optimizer = torch.optim.SGD(options, lr=0.4)
    groups = [ParameterGroup(head.parameters(), Constant()), ParameterGroup(other.parameters(), Linear(0.0, 2.0))]
    rates = LearningRates(optimizer, Linear(1.0, 0.0), groups)
    rates.set(optimizer, 1, 4)
    assert rates_of(optimizer, [body.weight, body.bias, head.weight, head.bias, other.weight]) == pytest.approx(
        [0.075, 0.3, 0.1, 0.4, 0.05]
    )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.5, 0.5, 0, 0]
    rates.set(optimizer, 4, 4)
    assert rates_of(optimizer, [body.weight, head.weight, other.weight]) == pytest.approx([0.0, 0.1, 0.2])


def test_without_groups_the_optimiser_stays_as_it_is() -> None:
    (body,) = layers(1)
    optimizer = torch.optim.SGD(body.parameters(), lr=0.4)
    LearningRates(optimizer, Constant(0.5)).set(optimizer, 0, 1)
    assert [(group["lr"], len(group["params"])) for group in optimizer.param_groups] == [(0.2, 2)]


def test_a_parameter_of_two_groups_is_refused() -> None:
    (body,) = layers(1)
    groups = [ParameterGroup(body.parameters(), Constant())] * 2
    with pytest.raises(ValueError, match="in two groups"):
        LearningRates(torch.optim.SGD(body.parameters(), lr=0.1), Constant(), groups)


def test_a_share_below_0_is_refused() -> None:
    (body,) = layers(1)
    with pytest.raises(UserError, match="at -2 times the learning rate, which is away from the goal; give 0 or more"):
        LearningRates(torch.optim.SGD(body.parameters(), lr=0.1), Constant(), [ParameterGroup(body.parameters(), Constant(-2.0))])


class Frozen(SimSiam):
    """SimSiam whose predictor never moves, because its own schedule is 0."""

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.predict.parameters(), Constant(0.0))]


def test_training_gives_an_objective_s_group_its_own_rate(tmp_path: Path) -> None:
    objective = Frozen(8, width=16, hidden=8)
    before = {name: value.clone() for name, value in objective.named_parameters()}
    pretrain(recipe(objective, schedule=Cosine(warmup=2)), tmp_path / "run", log_every=1)
    still = {name for name, value in objective.named_parameters() if torch.equal(value, before[name])}
    assert still == {name for name in before if name.startswith("predict")}
    expected = [0.05 * Cosine(warmup=2)(step, STEPS) for step in range(STEPS)]
    assert [line["lr"] for line in RunFolder(tmp_path / "run").metrics()] == pytest.approx(expected)


class HeldLast(MLP):
    """An MLP whose last layer never moves, because its own schedule is 0."""

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.last.parameters(), Constant(0.0))]


@pytest.mark.parametrize("held", [False, True])
def test_training_gives_an_encoder_s_group_its_own_rate_too(held: bool, tmp_path: Path) -> None:
    made = recipe(SimSiam(8, width=16, hidden=8))
    encoder = HeldLast(rows().shape["features"], hidden=16, dim=8, layers=2)
    stage = replace(made.stages[0], encoder=Streams({"default": encoder}) if held else encoder)
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    pretrain(replace(made, stages=[stage], embedder=encoder), tmp_path / "run")
    still = {name for name, value in encoder.named_parameters() if torch.equal(value, before[name])}
    assert still == {name for name in before if name.startswith("last.")}


def predictor_rates(folder: Path) -> list[float]:
    saved = RunFolder(folder).load_checkpoint()
    assert saved is not None
    return [group["lr"] for group in saved["optimizer"]["param_groups"]]


def made(constant: bool) -> object:
    torch.manual_seed(0)
    return recipe(SimSiam(8, width=16, hidden=8, constant_predictor=constant), schedule=Cosine(), optimizer=SGD)


def test_simsiam_s_predictor_keeps_its_rate_and_the_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    pretrain(made(constant=True), tmp_path / "whole")
    assert predictor_rates(tmp_path / "whole") == pytest.approx([0.05 * Cosine()(STEPS - 1, STEPS), 0.05])
    stop_at(made(constant=True), tmp_path / "stopped", 4)
    pretrain(made(constant=True), tmp_path / "stopped", resume=True)
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")
    pretrain(made(constant=False), tmp_path / "falling")
    assert predictor_rates(tmp_path / "falling") == pytest.approx([0.05 * Cosine()(STEPS - 1, STEPS)])
    with pytest.raises(AssertionError):
        assert_same_bits(tmp_path / "whole", tmp_path / "falling")
