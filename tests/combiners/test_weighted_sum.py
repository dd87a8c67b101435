from __future__ import annotations

from functools import partial

import pytest
import torch

from anyview.combiners.combiner import Combiner, shared_gradients
from anyview.combiners.mgda import MGDA
from anyview.combiners.pcgrad import PCGrad
from anyview.combiners.weighted_sum import WeightedSum
from anyview.encoders.mlp import MLP
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.vicreg import VICReg
from anyview.recipe import Stage, Task
from anyview.testing import check_stage_rank_exact, tiny_batch
from anyview.testing.exactness import trace
from anyview.testing.tiny import sgd
from anyview.views.noise import NoisePair

COMBINERS = {"sum": WeightedSum, "mgda": MGDA, "mgda l2": partial(MGDA, "l2"), "mgda loss+": partial(MGDA, "loss+"), "pcgrad": PCGrad}


def two_tasks(make_combiner: type[Combiner]) -> Stage:
    torch.manual_seed(0)
    encoder = MLP(12, hidden=10, dim=8, layers=2)
    views = NoisePair(0.3)
    tasks = [Task(views, BarlowTwins(8, width=16)), Task(views, VICReg(8, width=6), weight=0.1)]
    return Stage(tasks, encoder, epochs=1, optimizer=sgd, combiner=make_combiner())


def test_sum_is_the_plain_gradient() -> None:
    shared = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    weights = WeightedSum().backward({"a": shared.sum(), "b": 2 * shared[0]}, [shared], torch.Tensor.backward, torch.Generator())
    assert shared.grad.tolist() == [3.0, 1.0]
    assert weights == {"a": 1.0, "b": 1.0}


def test_shared_gradients_are_one_row_per_loss_and_keep_the_graph() -> None:
    a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))
    losses = {"both": (a.sum() * b).sum(), "one": a[0] ** 2}
    rows = shared_gradients(losses, [a, b])
    assert rows.tolist() == [[1.0, 1.0, 2.0], [2.0, 0.0, 0.0]]
    assert a.grad is None
    losses["both"].backward()


@pytest.mark.parametrize("name", COMBINERS)
@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(name: str, ranks: int, rows: int) -> None:
    """Losses, gradients, state and the weights themselves; shared gradients are flattened in float32."""
    check_stage_rank_exact(partial(two_tasks, COMBINERS[name]), partial(tiny_batch, rows), ranks=ranks, tolerance=1e-5)


def test_combiners_differ_on_shared_parameters() -> None:
    gradients = {name: trace(partial(two_tasks, make), tiny_batch, 1).gradients[0] for name, make in COMBINERS.items()}
    for name in ("mgda", "mgda l2", "mgda loss+"):
        assert not torch.allclose(gradients[name]["encoder.last.weight"], gradients["sum"]["encoder.last.weight"])
    head = "objectives.VICReg.project.0.weight"
    torch.testing.assert_close(gradients["pcgrad"][head], gradients["sum"][head])
