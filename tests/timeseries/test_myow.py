"""MYOW on neural recordings: pairs of one trial, candidates of others, views, and the recipe beside its controls."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import anyview
from anyview.data.source import Batch, Epoch
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.evaluation.protocol import RANDOM, TRAINED
from anyview.objectives.byol import BYOL
from anyview.objectives.myow import MYOW
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Recipe
from anyview.testing import check_objective, check_stage_rank_exact, check_view_maker, tiny_stage
from anyview.testing.exactness import trace
from anyview.views.draws import Draws
from anyview_timeseries.neural_views import NeuralViews
from anyview_timeseries.recipes.myow import myow
from anyview_timeseries.series import SeriesSource
from anyview_timeseries.trials import TrialPairs
from tests.small_runs import assert_same_bits, stop_at

SIZES = (3, 7, 1, 5, 9, 4)
SMALL = partial(MYOW, hidden=16, width=8, second_hidden=12, second_width=4, weight=0.5, begin=0.0, end=0.5)
TINY = {"hidden": 12, "dim": 8, "layers": 2, "candidates": 12, "batch_size": 8, "warmup": 2, "objective": SMALL}


def recording(channels: int = 6, length: int = 1) -> SeriesSource:
    """Trials of unequal length, whose windows lie among each other's."""
    random = torch.Generator().manual_seed(1)
    trial = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))[torch.randperm(sum(SIZES), generator=random)]
    windows = torch.randn(len(trial), channels, length, generator=random)
    return SeriesSource(windows, torch.arange(len(trial)) % 2, groups={"trial": trial})


def batches(pairs: TrialPairs, epochs: int, **more: int) -> list[Batch]:
    return [batch for number in range(epochs) for batch in pairs.batches(Epoch(number, seed=3, batch_size=8, **more))]


def make_batch() -> Batch:
    batch = next(TrialPairs(recording(), lookahead=2, candidates=10).batches(Epoch(batch_size=8)))
    for part in (batch, *batch.extras.values()):
        part.data = part.data.to(torch.get_default_dtype())
    return batch


def make_encoder() -> MLP:
    return MLP(6, hidden=10, dim=8, layers=2)


def test_pairs_are_every_pair_of_a_trial_alike() -> None:
    source = recording()
    pairs = TrialPairs(source, lookahead=2, candidates=4)
    places = {int(row): (int(source.groups[row]), place) for trial in range(len(SIZES)) for place, row in enumerate(rows_of(source, trial))}
    seen: dict[tuple[int, int], int] = {}
    for batch in batches(pairs, 1500):
        for one, other in zip(batch.index.tolist(), batch.extras["partner"].index.tolist(), strict=True):
            assert places[one][0] == places[other][0]
            assert abs(places[one][1] - places[other][1]) <= 2
            seen[one, other] = seen.get((one, other), 0) + 1
    expected = sum(abs(i - j) <= 2 for size in SIZES for i in range(size) for j in range(size))
    assert len(seen) == expected == int(pairs.ends[-1])
    mean = sum(seen.values()) / expected
    assert all(abs(count - mean) < 6 * mean**0.5 for count in seen.values())


def rows_of(source: SeriesSource, trial: int) -> list[int]:
    assert source.groups is not None
    return (source.groups == trial).nonzero().flatten().tolist()


def test_queries_and_candidates_never_share_a_trial() -> None:
    pairs = TrialPairs(recording(), candidates=10)
    shares = []
    for batch in batches(pairs, 60):
        queries, candidates = (batch.extras[name].groups["trial"] for name in ("queries", "candidates"))
        assert not set(queries.tolist()) & set(candidates.tolist())
        assert (len(queries), len(candidates)) == (8, 10)
        shares.append(len(set(queries.tolist())))
    assert 1 <= min(shares) < max(shares) <= 5


def test_an_epoch_follows_from_seed_and_number_and_is_shared_by_ranks() -> None:
    pairs = TrialPairs(recording(), candidates=10, passes=2)
    whole = batches(pairs, 1)
    assert len(whole) == pairs.steps(8) == 2 * (sum(SIZES) // 8)
    for one, again in zip(whole[2:], batches(pairs, 1, skip=2), strict=True):
        assert torch.equal(one.extras["candidates"].index, again.extras["candidates"].index)
    for name in ("partner", "queries", "candidates"):
        parts = zip(*(batches(pairs, 1, rank=rank, ranks=3) for rank in range(3)), strict=True)
        for one, ours in zip(whole, parts, strict=True):
            assert torch.equal(torch.cat([part.extras[name].index for part in ours]), one.extras[name].index)
            assert ours[1].extras[name].start == len(ours[0].extras[name].index)


def test_the_pair_is_alike_but_for_the_time_between() -> None:
    batch = make_batch()
    same = Batch(batch.data, 8, extras={**batch.extras, "partner": batch})
    silent = torch.arange(6.0)
    first, second = NeuralViews(silent)(same, Draws.seeded(0, total=8)).views
    assert torch.equal(first.data, second.data)
    assert not torch.equal(first.data, same.data)
    apart, other = NeuralViews(silent, structured=False)(same, Draws.seeded(0, total=8)).views
    assert not torch.equal(apart.data, other.data)
    gone = NeuralViews(silent, dropout=1.0, dropout_rate=1.0, noise=0.0)(same, Draws.seeded(0, total=8)).views[0].data
    changed = gone != same.data
    assert 0.3 < float(changed.float().mean()) < 0.7
    assert torch.equal(gone[changed], silent[:, None].expand(8, 6, 1)[changed])
    peppered = NeuralViews(dropout=0.0, noise=0.0, pepper=0.5)(same, Draws.seeded(0, total=8)).views[0].data - same.data
    assert sorted({round(float(value), 3) for value in peppered.flatten()}) == [0.0, 0.3]


@pytest.mark.parametrize("structured", [True, False])
def test_view_maker_gives_what_it_says(structured: bool) -> None:
    check_view_maker(NeuralViews(structured=structured, pepper=0.1), make_batch(), sliced=False)


def test_objective_keeps_its_contract_with_queries_and_candidates() -> None:
    check_objective(SMALL, make_views=NeuralViews, make_encoder=make_encoder, make_batch=make_batch)


@pytest.mark.parametrize("objective", [SMALL, partial(SMALL, symmetric=True), partial(BYOL, hidden=16, width=8)])
def test_two_ranks_train_as_one(objective: partial) -> None:
    check_stage_rank_exact(partial(tiny_stage, objective, NeuralViews, make_encoder), make_batch)


def test_queries_are_mined_for() -> None:
    batch = make_batch()
    stage = tiny_stage(partial(SMALL, neighbours=1), NeuralViews, make_encoder)
    pretrainer = Pretrainer(stage).train()
    pretrainer.start()
    encoded: list[int] = []
    stage.encoder.register_forward_hook(lambda *called: encoded.append(len(called[2].rows)))
    pretrainer(StepInput(batch, Draws.seeded(0, total=8), 5, 10))
    assert encoded == [8, 8]  # the first view and the queries; the second view and the candidates are the teacher's


def test_without_weight_it_is_byol() -> None:
    run = {}
    for name, objective in {"byol": partial(SMALL, weight=0.0), "w": partial(SMALL, weight=0.0, neighbours=1)}.items():
        stage = tiny_stage(objective, NeuralViews, make_encoder)
        run[name] = trace(lambda stage=stage: stage, make_batch, 3, torch.float32)
    assert all(set(step) == {"augmented"} for step in run["byol"].losses)
    for ours, theirs in zip(run["byol"].losses, run["w"].losses, strict=True):
        assert torch.equal(ours["augmented"], theirs["augmented"])


def made() -> Recipe:
    torch.manual_seed(0)
    return myow(recording(), epochs=3, **TINY)


def test_a_stopped_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    anyview.pretrain(made(), tmp_path / "whole", log_every=1)
    stop_at(made(), tmp_path / "stopped", 5)
    anyview.pretrain(made(), tmp_path / "stopped", resume=True, log_every=1)
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: myow(SeriesSource(torch.randn(9, 3, 1))), "windows of one trial were to be paired, and the group ids .* are: none"),
        (lambda: myow(recording(), group="day"), "windows of one day were to be paired, and the group ids .* are: trial"),
        (lambda: myow(SeriesSource(torch.randn(9, 3, 1), groups={"trial": [0] * 9})), "the training windows of 'series' are of one"),
        (lambda: myow(recording(), lookahead=-1), "a lookahead and candidates of 0 or more .* found lookahead -1"),
        (lambda: myow(recording(), dropout=1.5), "a probability from 0 to 1 .* found dropout 1.5"),
    ],
)
def test_mistakes_are_one_sentence(build, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_it_runs_on_any_length_and_without_candidates(tmp_path: Path) -> None:
    built = myow(recording(length=5), epochs=2, **{**TINY, "candidates": 0, "objective": partial(BYOL, hidden=16, width=8)})
    run = anyview.pretrain(built, tmp_path / "run", log_every=1)
    assert np.isfinite([line["loss"] for line in run.folder.metrics()]).all()
    assert run.embed().shape == (sum(SIZES), 8)


def test_reaches_are_told_apart_better_than_by_the_untrained_encoder(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (data_root / "timeseries" / "monkey_reach_chewie1").is_dir():
        pytest.skip("no monkey_reach_chewie1 under the data root")
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    run = anyview.pretrain("timeseries/myow", tmp_path / "run", epochs=150, warmup=20)
    (result,) = run.evaluate(["reach_angle"], seeds=1)
    assert result.mean(TRAINED) > result.mean(RANDOM) + 0.1
    assert np.array_equal(anyview.load(tmp_path / "run").embed(), run.embed())
