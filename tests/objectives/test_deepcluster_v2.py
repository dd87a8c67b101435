from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from anyview.data.source import Batch
from anyview.distributed import rank
from anyview.errors import UserError
from anyview.objectives.deepcluster_v2 import IGNORED, DeepClusterV2, deepcluster_loss, nearest, spherical_kmeans
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import check_objective, check_rank_exact, run_on_ranks, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws, tiny_pretrainer
from anyview.views.maker import ViewMaker
from anyview.views.multi_crop import MultiCrop
from anyview.views.noise import Noise
from anyview.views.view import View, ViewSet

SMALL = partial(DeepClusterV2, hidden=16, width=8, prototypes=4, heads=3)


def crops() -> ViewMaker:
    return MultiCrop(Noise(0.1), Noise(0.6), locals=2)


def part(batch: Batch, rows: Tensor) -> Batch:
    return replace(batch, data=batch.data[rows], rows=len(rows), total=len(rows), index=batch.index[rows], labels=batch.labels[rows])


def shown(batch: Batch, number: int = 0) -> StepInput:
    return StepInput(batch, tiny_draws(number, batch.rows), number, 10)


def begun(stage: Stage, batches: list[Batch], samples: int = 12) -> Pretrainer:
    pretrainer = tiny_pretrainer(stage, shown(batches[0]), samples)
    pretrainer.before_epoch(0, lambda: [shown(batch, 99) for batch in batches])
    return pretrainer


def rows(count: int = 30, dim: int = 4) -> Tensor:
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)


# k-means


def test_kmeans_is_the_published_one() -> None:
    x = rows()
    centroids = x[:5].clone()
    for _ in range(10):
        labels = [max(range(5), key=lambda k: float(x[m] @ centroids[k])) for m in range(30)]
        for k in range(5):
            mine = [x[m] for m in range(30) if labels[m] == k]
            if mine:
                centroids[k] = normalize(torch.stack(mine).mean(0), dim=0)
    labels = [max(range(5), key=lambda k: float(x[m] @ centroids[k])) for m in range(30)]
    found, assignments = spherical_kmeans(x, x[:5])
    torch.testing.assert_close(found, centroids, rtol=1e-10, atol=1e-12)
    assert assignments.tolist() == labels


def test_as_many_centroids_as_distinct_rows_give_each_its_own() -> None:
    x = rows(12)
    centroids, assignments = spherical_kmeans(x, x[torch.randperm(12)])
    assert len(assignments.unique()) == 12
    torch.testing.assert_close(centroids[assignments], x)


def test_an_empty_centroid_keeps_its_place() -> None:
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    centroids, assignments = spherical_kmeans(normalize(x, dim=1), torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert assignments.tolist() == [0, 0]
    assert centroids[1].tolist() == [-1.0, 0.0]


def test_rows_that_cancel_leave_their_centroid_in_its_place() -> None:
    x = torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    centroids, _ = spherical_kmeans(x, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert centroids.tolist() == [[1.0, 0.0], [-1.0, 0.0]]


def test_rows_are_compared_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, centroids = rows(), rows(7)
    whole = nearest(x, centroids)
    monkeypatch.setattr("anyview.objectives.deepcluster_v2.CHUNK", 4)
    assert torch.equal(nearest(x, centroids), whole)


def kmeans_on_a_rank() -> tuple[Tensor, Tensor]:
    x = rows()
    return spherical_kmeans(x[:7] if rank() == 0 else x[7:], x[:5])


def test_kmeans_on_two_ranks_is_that_of_one() -> None:
    x = rows()
    centroids, assignments = spherical_kmeans(x, x[:5])
    parts = run_on_ranks(kmeans_on_a_rank, 2)
    assert torch.equal(parts[0][0], parts[1][0])
    torch.testing.assert_close(parts[0][0], centroids, rtol=1e-12, atol=1e-14)
    assert torch.equal(torch.cat([part[1] for part in parts]), assignments)


# the loss


def test_loss_is_the_paper_s_formula_over_rows_with_a_label() -> None:
    scores = torch.randn(6, 5, dtype=torch.float64)
    labels = torch.tensor([0, 4, IGNORED, 2, 2, IGNORED])
    terms = [-torch.log((scores[m, k] / 0.1).exp() / (scores[m] / 0.1).exp().sum()) for m, k in enumerate(labels) if k != IGNORED]
    torch.testing.assert_close(deepcluster_loss(scores, labels), torch.stack(terms).mean(), rtol=1e-10, atol=0)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: deepcluster_loss(s, labels), (scores,))


def test_no_label_at_all_is_no_loss_rather_than_nan() -> None:
    scores = torch.randn(6, 5, requires_grad=True)
    loss = deepcluster_loss(scores, torch.full((6,), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(scores.grad, torch.zeros(6, 5))


def test_collapse_line_is_log_of_the_number_of_clusters() -> None:
    assert float(deepcluster_loss(torch.full((6, 5), 0.3), torch.arange(6) % 5)) == pytest.approx(math.log(5), rel=1e-6)
    assert SMALL(8).collapse_line(12) == pytest.approx(math.log(4))


# the objective


def test_bank_is_filled_before_the_first_epoch_and_clustered_for_each_head() -> None:
    stage = tiny_stage(SMALL)
    objective = stage.tasks[0].objective
    begun(stage, [tiny_batch()])
    views = stage.tasks[0].views(tiny_batch(), tiny_draws(99, 12)).views
    expected = torch.stack([normalize(objective.project(stage.encoder(view).rows), dim=1) for view in views])
    torch.testing.assert_close(objective.bank, expected.detach())
    for head in range(3):
        labels = objective.assignments[head]
        assert labels.min() >= 0
        assert torch.equal(labels, nearest(objective.bank[head % 2], objective.centroids[head]))
    torch.testing.assert_close(objective.centroids.norm(dim=2), torch.ones(3, 4))
    assert not torch.equal(objective.centroids[0], objective.centroids[2])  # the same bank, from other seeds


def test_objective_is_the_mean_over_heads_and_crops() -> None:
    stage = tiny_stage(SMALL, crops)
    objective = stage.tasks[0].objective
    pretrainer = begun(stage, [tiny_batch()])
    views = stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)).views
    projected = [normalize(objective.project(stage.encoder(view).rows), dim=1) for view in views]
    terms = [deepcluster_loss(row @ objective.centroids[h].T, objective.assignments[h]) for h in range(3) for row in projected]
    assert len(terms) == 12
    torch.testing.assert_close(pretrainer(shown(tiny_batch()))["deepcluster_v2"], torch.stack(terms).mean())


def test_clusters_are_found_by_sample_index_not_by_order() -> None:
    """The same samples in another order, views without noise: the loss stays."""
    still = partial(MultiCrop, Noise(0.0), Noise(0.0), locals=0)
    stage = tiny_stage(SMALL, still)
    pretrainer = begun(stage, [tiny_batch()])
    order = torch.randperm(12)
    losses = [pretrainer(shown(batch))["deepcluster_v2"] for batch in (tiny_batch(), part(tiny_batch(), order))]
    torch.testing.assert_close(losses[0], losses[1])
    wrong = replace(part(tiny_batch(), order), index=torch.arange(12))
    assert not torch.allclose(pretrainer(shown(wrong))["deepcluster_v2"], losses[0])


def test_steps_overwrite_the_bank_and_leave_the_clusters_of_the_epoch() -> None:
    stage = tiny_stage(SMALL)
    objective = stage.tasks[0].objective
    pretrainer = begun(stage, [tiny_batch()])
    before = copy.deepcopy(objective.state_dict())
    batch = part(tiny_batch(), torch.tensor([7, 2, 5]))
    views = stage.tasks[0].views(batch, tiny_draws(0, 3)).views
    expected = torch.stack([normalize(objective.project(stage.encoder(view).rows), dim=1) for view in views])
    pretrainer(shown(batch))
    assert torch.equal(objective.bank, before["bank"])
    pretrainer.after_step(1, 10)
    torch.testing.assert_close(objective.bank[:, [7, 2, 5]], expected.detach())
    others = [sample for sample in range(12) if sample not in (7, 2, 5)]
    assert torch.equal(objective.bank[:, others], before["bank"][:, others])
    assert torch.equal(objective.assignments, before["assignments"])
    assert torch.equal(objective.centroids, before["centroids"])
    assert objective._incoming == {}


def test_later_epochs_cluster_the_bank_anew_without_a_look() -> None:
    stage = tiny_stage(SMALL)
    objective = stage.tasks[0].objective
    pretrainer = begun(stage, [tiny_batch()])
    before = objective.centroids.clone()

    def unasked() -> Iterator[StepInput]:
        raise AssertionError("the bank is filled, and the data is looked at again")

    pretrainer.before_epoch(1, unasked)
    after = objective.centroids.clone()
    assert not torch.equal(after, before)
    pretrainer.before_epoch(1, unasked)
    assert torch.equal(objective.centroids, after)


def test_samples_that_were_never_seen_have_no_cluster_until_they_are() -> None:
    stage = tiny_stage(SMALL)
    objective = stage.tasks[0].objective
    pretrainer = begun(stage, [part(tiny_batch(), torch.arange(8))])
    assert objective.assignments[:, 8:].unique().tolist() == [IGNORED]
    assert float(pretrainer(shown(part(tiny_batch(), torch.arange(8, 12)))).total.detach()) == 0.0
    pretrainer.after_step(1, 10)
    pretrainer.before_epoch(1, list)
    assert int(objective.assignments.min()) >= 0


def test_each_sample_is_its_own_cluster_where_there_are_as_many() -> None:
    stage = tiny_stage(partial(SMALL, prototypes=12))
    begun(stage, [tiny_batch()])
    for labels in stage.tasks[0].objective.assignments:
        assert labels.sort().values.tolist() == list(range(12))


def test_fewer_samples_than_clusters_are_a_user_s_mistake() -> None:
    with pytest.raises(UserError, match="13 clusters were asked for, and there are 12 samples"):
        begun(tiny_stage(partial(SMALL, prototypes=13)), [tiny_batch()])
    with pytest.raises(UserError, match="there are 3 samples"):
        begun(tiny_stage(SMALL), [part(tiny_batch(), torch.arange(3))])


def test_is_taken_in_full_precision_under_autocast() -> None:
    pretrainer = begun(tiny_stage(SMALL), [tiny_batch()])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = pretrainer(shown(tiny_batch())).total
    assert loss.dtype == torch.float32
    assert float(loss.detach()) > 0


def test_batches_must_say_which_samples_they_hold() -> None:
    with pytest.raises(UserError, match="which samples they show"):
        tiny_pretrainer(tiny_stage(SMALL), shown(replace(tiny_batch(), index=None)), 12)


def test_objective_keeps_the_contract() -> None:
    check_objective(SMALL)
    check_objective(SMALL, make_views=crops)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact_with_crops(ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows, make_views=crops)


def test_state_is_made_on_the_objective_s_device() -> None:
    objective = DeepClusterV2(4, hidden=4, width=2, prototypes=2, heads=1).to("meta")
    objective.prepare(ViewSet([View(torch.zeros(3, 4))]), 8)
    assert {buffer.device.type for buffer in objective.buffers()} == {"meta"}
