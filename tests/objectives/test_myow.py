from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.objectives.byol import BYOL, byol_loss
from anyview.objectives.myow import MYOW, mined
from anyview.objectives.objective import Losses
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws
from anyview.views.draws import Draws
from anyview.views.maker import ViewMaker
from anyview.views.noise import NoisePair
from anyview.views.view import View, ViewSet

SMALL = partial(MYOW, hidden=16, width=8, second_hidden=12, second_width=4, weight=0.5, begin=0.0, end=0.5)


class WithPool(NoisePair):
    """A third view, and a pool of as many candidates: other rows, of other trials than the batch's row in the same place."""

    def __init__(self, *, third: bool = False, trials: str = "others", index: int = 100) -> None:
        super().__init__(0.3)
        self.third, self.trials, self.index = third, trials, index

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        views = super().__call__(batch, draws)
        if self.third:
            views.views.append(super().__call__(batch, draws).views[0])
        own = batch.index // 2
        for view in views.views:
            view.groups = {"trial": own, "subject": torch.zeros_like(own)}
        pool = {"trial": torch.zeros_like(own) if self.trials == "one" else own + 1, "day": own}
        data = batch.data + draws.normal(12).to(batch.data)
        views.extras["candidates"] = View(data, role="clean", index=batch.index + self.index, groups=pool)
        return views


def begun(make: partial[MYOW] | partial[BYOL] = SMALL, views: ViewMaker | None = None) -> tuple[Stage, Pretrainer]:
    stage = tiny_stage(make, (lambda: views) if views is not None else None)
    pretrainer = Pretrainer(stage).train()
    pretrainer.start()
    return stage, pretrainer


def shown(step: int) -> StepInput:
    return StepInput(tiny_batch(), tiny_draws(step, 12), step, 10)


def chosen(pretrainer: Pretrainer, monkeypatch: pytest.MonkeyPatch, step: StepInput) -> tuple[Losses, list[Tensor]]:
    """The losses of a step, and the teacher's rows that it mined."""
    found: list[Tensor] = []
    objective = pretrainer.tasks[0].objective
    across = objective._across_samples
    monkeypatch.setattr(objective, "_across_samples", lambda projected, rows: (found.append(rows), across(projected, rows))[1])
    return pretrainer(step), found


@torch.no_grad()
def nearest_of(row: Tensor, candidates: Tensor, places: list[int]) -> int:
    return max(places, key=lambda place: float(torch.cosine_similarity(row, candidates[place], dim=0)))


def test_one_of_the_nearest_by_cosine_is_mined() -> None:
    random = torch.Generator().manual_seed(0)
    queries, candidates = torch.randn(6, 4, generator=random), 10 * torch.rand(9, 1) * torch.randn(9, 4, generator=random)
    allowed = torch.rand(6, 9, generator=random) < 0.7
    for number in (0.0, 0.34, 0.67, 0.9999999):
        found = mined(queries, candidates, allowed, 3, torch.full((6,), number))
        for i, query in enumerate(queries):
            order = torch.cosine_similarity(query[None], candidates).argsort(descending=True).tolist()
            nearest = [k for k in order if allowed[i, k]][:3]
            assert int(found[i]) == nearest[int(number * 3)]


def test_each_of_the_nearest_is_as_likely() -> None:
    queries, candidates = torch.ones(3000, 2), torch.tensor([[1.0, 1.0], [1.0, 0.9], [-1.0, 0.0], [1.0, 0.8]])
    found = mined(queries, candidates, torch.ones(3000, 4, dtype=torch.bool), 3, torch.rand(3000))
    counts = torch.bincount(found, minlength=4)
    assert int(counts[2]) == 0
    assert bool(((counts[[0, 1, 3]] - 1000).abs() < 120).all())


def test_fewer_allowed_candidates_than_neighbours() -> None:
    allowed = torch.tensor([[False, True, False], [True, True, True]])
    found = mined(torch.ones(2, 2), torch.eye(3, 2), allowed, 8, torch.tensor([0.99, 0.99]))
    assert int(found[0]) == 1
    assert mined(torch.ones(2, 2), torch.eye(3, 2), allowed, 8, torch.zeros(2))[0] == 1


@pytest.mark.parametrize("symmetric", [False, True])
def test_is_byol_exactly_while_the_weight_is_nought(symmetric: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Value and gradients, to the last bit; nothing is mined, and the second space has a gradient of nought."""
    _, byol = begun(partial(BYOL, hidden=16, width=8, momentum=0.9))
    _, myow = begun(partial(SMALL, symmetric=symmetric, begin=0.5, end=1.0))
    monkeypatch.setattr(myow.tasks[0].objective, "_neighbours", None)
    for name in ("encoder", "teachers"):
        theirs = {key.replace("BYOL", "MYOW"): value for key, value in getattr(byol, name).state_dict().items()}
        getattr(myow, name).load_state_dict(theirs)
    missing = myow.objectives["MYOW"].load_state_dict(byol.objectives["BYOL"].state_dict(), strict=False)
    assert all("second" in key for key in missing.missing_keys)
    found, expected = myow(shown(3)), byol(shown(3))["byol"]
    if not symmetric:
        objective, (a, b) = byol.objectives["BYOL"], byol.tasks[0].views(tiny_batch(), tiny_draws(3, 12)).views
        prediction = objective.predict(objective.project(byol.encoder(a).rows))
        expected = byol_loss(prediction, objective.teacher_project(byol.teachers["BYOL"](b).rows))
    assert torch.equal(found.total, expected)
    assert list(found) == ["augmented"]
    assert myow.monitors == {"mined_weight": 0.0}
    found.total.backward()
    expected.backward()
    ours = dict(myow.named_parameters())
    for name, parameter in byol.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(ours[name.replace("BYOL", "MYOW")].grad, parameter.grad), name
    second = [parameter for name, parameter in ours.items() if "second" in name and parameter.requires_grad]
    assert len(second) > 0
    assert all(float(parameter.grad.abs().max()) == 0.0 for parameter in second)


def test_weight_rises_and_divides_both_terms() -> None:
    objective = MYOW(8, hidden=8, width=4, weight=0.1, begin=0.01, end=0.11)
    assert [round(objective.weight(step, 1000), 4) for step in (0, 10, 60, 110, 1000)] == [0.0, 0.0, 0.05, 0.1, 0.1]
    _, pretrainer = begun()
    mining = pretrainer(shown(4))
    _, plain = begun(partial(SMALL, weight=0.0))
    torch.testing.assert_close(mining["augmented"], plain(shown(4)).total / 1.4)
    assert pretrainer.monitors["mined_weight"] == pytest.approx(0.4)
    assert -1 <= float(pretrainer.monitors["mined_similarity"]) <= 1


def test_mined_term_is_byol_s_in_the_second_space(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, pretrainer = begun()
    losses, (neighbours,) = chosen(pretrainer, monkeypatch, shown(5))
    objective = stage.tasks[0].objective
    view = stage.tasks[0].views(tiny_batch(), tiny_draws(5, 12)).views[0]
    prediction = objective.second_predict(objective.second_project(objective.project(stage.encoder(view).rows)))
    target = objective.teacher_second_project(objective.teacher_project(neighbours))
    torch.testing.assert_close(losses["mined"], 0.5 * byol_loss(prediction, target) / 1.5)
    losses["mined"].backward()
    assert all(parameter.grad is not None for parameter in (*objective.project.parameters(), *stage.encoder.parameters()))
    teachers = (pretrainer.teachers, objective.teacher_project, objective.teacher_second_project)
    assert all(parameter.grad is None for module in teachers for parameter in module.parameters())


def test_candidates_of_the_batch_are_other_samples_of_the_second_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one neighbour, each row is given the nearest teacher's row that is neither in its place nor of its sample."""
    stage, pretrainer = begun(partial(SMALL, neighbours=1))
    batch = tiny_batch()
    batch.index = torch.tensor([0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    _, (neighbours,) = chosen(pretrainer, monkeypatch, StepInput(batch, tiny_draws(5, 12), 5, 10))
    first, second = stage.tasks[0].views(batch, tiny_draws(5, 12)).views
    rows, candidates = stage.encoder(first).rows, pretrainer.teachers["MYOW"](second).rows
    for i in range(12):
        others = [k for k in range(12) if batch.index[k] != batch.index[i]]
        assert torch.equal(neighbours[i], candidates[nearest_of(rows[i], candidates, others)])


def test_without_an_index_the_place_tells_samples_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, pretrainer = begun(partial(SMALL, neighbours=12))
    batch = Batch(tiny_batch().data, 12)
    for step in range(1, 10):
        _, (neighbours,) = chosen(pretrainer, monkeypatch, StepInput(batch, tiny_draws(step, 12), step, 10))
        monkeypatch.undo()
        candidates = pretrainer.teachers["MYOW"](stage.tasks[0].views(batch, tiny_draws(step, 12)).views[1]).rows
        assert not bool((neighbours == candidates).all(1).any())


@pytest.mark.parametrize("third", [False, True])
def test_extra_candidates_of_other_trials_are_mined_for_the_third_view(third: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    views = WithPool(third=third)
    stage, pretrainer = begun(partial(SMALL, neighbours=1), views)
    _, (neighbours,) = chosen(pretrainer, monkeypatch, shown(5))
    made = views(tiny_batch(), tiny_draws(5, 12))
    query, pool = made.views[2 if third else 0], made.extras["candidates"]
    rows, candidates = stage.encoder(query).rows, pretrainer.teachers["MYOW"](pool).rows
    for i in range(12):
        others = [k for k in range(12) if pool.groups["trial"][k] != query.groups["trial"][i]]
        assert torch.equal(neighbours[i], candidates[nearest_of(rows[i], candidates, others)])


def test_a_sample_that_is_its_own_candidate_is_not_mined(monkeypatch: pytest.MonkeyPatch) -> None:
    views = WithPool(index=0)
    _, pretrainer = begun(partial(SMALL, neighbours=12, groups=()), views)
    _, (neighbours,) = chosen(pretrainer, monkeypatch, shown(5))
    candidates = pretrainer.teachers["MYOW"](views(tiny_batch(), tiny_draws(5, 12)).extras["candidates"]).rows
    assert not bool((neighbours == candidates).all(1).any())


def test_a_pool_of_the_row_s_own_trial_raises() -> None:
    _, pretrainer = begun(SMALL, WithPool(trials="one"))
    with pytest.raises(UserError, match="some rows have no candidate of another sample and group; make the batch larger"):
        pretrainer(shown(5))


def test_groups_that_are_asked_for_count_within_the_batch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, pretrainer = begun(partial(SMALL, neighbours=1, groups=("trial",)))
    batch = tiny_batch()
    batch.groups = {"trial": torch.arange(12) % 3, "subject": torch.zeros(12, dtype=torch.long)}
    _, (neighbours,) = chosen(pretrainer, monkeypatch, StepInput(batch, tiny_draws(5, 12), 5, 10))
    first, second = stage.tasks[0].views(batch, tiny_draws(5, 12)).views
    rows, candidates = stage.encoder(first).rows, pretrainer.teachers["MYOW"](second).rows
    for i in range(12):
        others = [k for k in range(12) if k % 3 != i % 3]
        assert torch.equal(neighbours[i], candidates[nearest_of(rows[i], candidates, others)])


def test_groups_that_nobody_carries_raise() -> None:
    _, pretrainer = begun(partial(SMALL, groups=("day",)), WithPool())
    with pytest.raises(UserError, match=r"a sample's own 'day', .*there are \['subject', 'trial'\] and \['day', 'trial'\]"):
        pretrainer(shown(5))


def test_a_batch_of_one_sample_raises() -> None:
    _, pretrainer = begun()
    batch = tiny_batch()
    batch.index = torch.zeros_like(batch.index)
    with pytest.raises(UserError, match="no candidate of another sample"):
        pretrainer(StepInput(batch, tiny_draws(5, 12), 5, 10))


@pytest.mark.parametrize(("neighbours", "differ"), [(1, False), (4, True)])
def test_seeds_choose_among_several_neighbours_alone(neighbours: int, differ: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Still(NoisePair):
        def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
            return ViewSet([View(batch.data), View(batch.data + 0.1)])

    rows = []
    for seed in (1, 2):
        _, pretrainer = begun(partial(SMALL, neighbours=neighbours), Still())
        rows.append(chosen(pretrainer, monkeypatch, StepInput(tiny_batch(), tiny_draws(seed, 12), 5, 10))[1][0])
        monkeypatch.undo()
    assert torch.equal(*rows) is not differ


def test_teachers_average_parameters_and_keep_their_own_batch_norm() -> None:
    stage, pretrainer = begun()
    objective = stage.tasks[0].objective
    pretrainer(shown(5)).total.backward()
    stage.optimizer([p for p in pretrainer.parameters() if p.requires_grad]).step()
    norms = [objective.teacher_project.module[1], objective.teacher_second_project.module[1]]
    before = [norm.running_mean.clone() for norm in norms]
    pretrainer.after_step(6, 10)
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert not torch.equal(norms[0].running_mean, objective.project[1].running_mean)
    assert pretrainer.teachers["MYOW"].buffer_rule == "own"


def test_goes_on_from_its_state_while_mining() -> None:
    _, first = begun()
    first(shown(5))
    first.after_step(6, 10)
    _, again = begun()
    again.load_state_dict(first.state_dict())
    assert torch.equal(first(shown(6)).total, again(shown(6)).total)


def test_objective_keeps_the_contract() -> None:
    check_objective(partial(SMALL, symmetric=True))


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
@pytest.mark.parametrize("pool", [False, True])
def test_ranks_are_exact(ranks: int, rows: int, pool: bool) -> None:
    """Mined from the second step on, of the batch itself or of a pool."""
    views = partial(WithPool, third=True) if pool else None
    check_rank_exact(partial(SMALL, symmetric=pool), ranks=ranks, rows=rows, make_views=views)
