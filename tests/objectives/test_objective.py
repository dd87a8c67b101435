from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor, nn

from anyview.encoders.encoder import Encoder, Encoding, Wrapped
from anyview.errors import UserError
from anyview.objectives.objective import Losses, MismatchError, Needs, Objective, Step, check_needs
from anyview.views.draws import Draws
from anyview.views.maker import Gives
from anyview.views.view import View, ViewSet


class Counting(Encoder):
    dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, view: View) -> Encoding:
        self.calls += 1
        return Encoding(view.data)


def make_step(encoder: Encoder, teacher: nn.Module | None = None) -> Step:
    views = ViewSet([View(torch.ones(3, 2)), View(torch.zeros(3, 2))])
    return Step(views, None, Draws.seeded(0, total=3), 25, 100, encoder, teacher)


def test_each_view_is_encoded_once_per_branch() -> None:
    student, teacher = Counting(), Counting()
    step = make_step(student, teacher)
    for view in step.views * 2:
        assert step.encode(view) is step.encode(view)
        assert torch.equal(step.encode(view, teacher=True).rows, view.data)
    assert student.calls == teacher.calls == 2


def test_views_made_on_the_way_are_never_taken_for_one_another() -> None:
    step = make_step(Counting())
    for number in range(50):
        assert float(step.encode(View(torch.full((1, 2), float(number)))).rows[0, 0]) == number


def test_a_teacher_that_is_not_there_is_an_error() -> None:
    step = make_step(Counting())
    with pytest.raises(UserError, match="has no teacher"):
        step.encode(step.views[0], teacher=True)


def test_progress() -> None:
    assert make_step(Counting()).progress == 0.25


def test_losses_are_named_terms_and_monitors() -> None:
    losses = Losses({"a": torch.tensor(1.0)}, b=torch.tensor(2.0), monitors={"std": 0.5})
    assert list(losses) == ["a", "b"]
    assert float(losses.total) == 3.0
    assert losses.monitors == {"std": 0.5}


NEEDS = {
    "views": (Needs(views=2), Gives(views=2), "2 views"),
    "roles": (Needs(roles=("local",)), Gives(roles=("view", "local")), "role 'local'"),
    "masks": (Needs(masks=True), Gives(masks=True), "masked views"),
    "targets": (Needs(targets=True), Gives(targets=True), "targets"),
    "relations": (Needs(relations=True), Gives(relations=True), "relations"),
    "labels": (Needs(labels=True), Gives(labels=True), "labels"),
    "groups": (Needs(groups=("subject",)), Gives(groups=("subject",)), "group ids 'subject'"),
    "extras": (Needs(extras=("pool",)), Gives(extras=("pool",)), "extra views 'pool'"),
}


@pytest.mark.parametrize("need", NEEDS)
def test_a_need_is_met_or_named(need: str) -> None:
    needs, gives, phrase = NEEDS[need]
    assert needs.missing(gives) == []
    assert len(needs.missing(Gives())) == 1
    assert phrase in needs.missing(Gives())[0]


def test_tokens_are_asked_of_the_encoder() -> None:
    assert Needs(tokens=True).missing(Gives()) == []
    assert Needs(tokens=True).missing(Gives(), tokens=False) == ["an encoder that returns tokens"]


class Demanding(Objective):
    needs = Needs(views=2, masks=True)


def test_mismatch_names_both_sides() -> None:
    with pytest.raises(UserError, match=r"Demanding needs 2 views \(there is 1\), masked views, which NoiseView does not give"):
        check_needs(Demanding, Gives(), views="NoiseView")


def test_default_teacher_is_a_moving_average_of_the_encoder() -> None:
    class Following(Objective):
        momentum = 0.5

    encoder = Wrapped(nn.Linear(2, 2), 2)
    teacher = Following().make_teacher(encoder)
    view = View(torch.randn(3, 2))
    rows: Tensor = teacher(view).rows
    assert torch.equal(rows, encoder(view).rows)
    assert teacher.momentum(3, 10) == 0.5


def test_an_objective_that_reads_data_itself_says_what_it_must_be() -> None:
    assert not Needs().missing(Gives(data="graph"))
    assert not Needs(data="tensor").missing(Gives())
    assert not Needs(data="graph").missing(Gives(data="graph"))
    assert Needs(data="tensor").missing(Gives(data="graph")) == ["a tensor as a view's data (there it is a graph)"]


def test_a_mismatch_keeps_what_was_missing() -> None:
    class Demanding(Objective):
        needs = Needs(views=2, targets=True)

    with pytest.raises(MismatchError) as caught:
        check_needs(Demanding, Gives(views=2), views="Pair")
    assert caught.value.lacks == ["targets"]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.lacks) == (str(caught.value), ["targets"])
