from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from anyview.data.source import Epoch
from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.testing import check_source
from anyview_timeseries.series import SeriesSource, require_complete
from anyview_timeseries.shifts import SHIFTS

WINDOWS = torch.randn(30, 2, 40, generator=torch.Generator().manual_seed(0))
LABELS = np.array(["walk", "rest", "run"] * 10)
SUBJECTS = np.repeat(["anna", "ben", "carl", "dora", "emil"], 6)
PUBLISHED = Split(torch.arange(18), torch.arange(18, 24), torch.arange(24, 30), name="official")


@pytest.mark.parametrize("batch_size", [None, 4, 30, 100])
@pytest.mark.parametrize("published", [None, PUBLISHED])
def test_keeps_the_contract(batch_size: int | None, published: Split | None) -> None:
    make = partial(SeriesSource, WINDOWS, LABELS, groups={"subject": SUBJECTS}, published=published, rate=25.0)
    check_source(make, batch_size=batch_size)
    gaps = WINDOWS.clone()
    gaps[3, 1, 5:9] = torch.nan
    check_source(partial(SeriesSource, gaps, ids=list(range(30))), batch_size=batch_size)


def test_windows_know_what_they_belong_to() -> None:
    source = SeriesSource(WINDOWS, LABELS, groups={"subject": SUBJECTS, "trial": np.arange(30) // 2})
    batch = next(source.batches(Epoch(batch_size=7)))
    assert torch.equal(batch.data, WINDOWS[batch.index])
    assert batch.groups is not None
    assert torch.equal(batch.groups["trial"], batch.index // 2)
    (view,) = source.clean()
    assert (view.stream, view.role) == ("time", "clean")
    assert view.groups is not None
    assert [source.group_names["subject"][number] for number in view.groups["subject"]] == SUBJECTS.tolist()
    assert source.class_names == ["rest", "run", "walk"]
    assert source.labels.tolist()[:3] == [2, 0, 1]


def test_splits_keep_subjects_apart() -> None:
    source = SeriesSource(WINDOWS, LABELS, groups={"trial": np.arange(30) // 2, "subject": SUBJECTS})
    for seed in range(5):
        split = source.split(seed)
        owners = [set(SUBJECTS[part.numpy()]) for part in (split.train, split.validation, split.test)]
        assert not owners[0] & owners[2]
        assert not owners[0] & owners[1]
    two = SeriesSource(WINDOWS, LABELS, groups={"subject": SUBJECTS < "c", "series": np.arange(30) // 5})
    assert two.kept_apart == "series"
    assert len(two.split(0).test)
    with pytest.raises(UserError, match="'series' has 2 subjects, and a split that keeps them apart needs 3"):
        SeriesSource(WINDOWS, LABELS, groups={"subject": SUBJECTS < "c"}).split(0)


def test_only_training_windows_are_shown_in_training() -> None:
    source = SeriesSource(WINDOWS, LABELS, published=PUBLISHED)
    seen = {int(row) for number in range(20) for batch in source.batches(Epoch(number=number, batch_size=6)) for row in batch.index}
    assert seen == set(range(18))
    assert source.describe()["pre-trained on"] == "18 of 30 windows"
    mine = SeriesSource(WINDOWS, LABELS, train_rows=torch.arange(5, 10))
    assert (mine.steps(None), mine.steps(2)) == (1, 2)


def test_labels_stay_what_they_are() -> None:
    assert SeriesSource(WINDOWS, np.arange(30) + 69).labels[0] == 69
    numbers = SeriesSource(WINDOWS, np.linspace(0, 1, 30))
    assert numbers.labels.is_floating_point()
    assert numbers.describe()["labels"] == "numbers from 0 to 1"
    assert SeriesSource(WINDOWS, ["", *["a"] * 29]).labels[0] == -1
    assert next(SeriesSource(WINDOWS, LABELS, labelled=True).batches(Epoch(batch_size=3))).labels.shape == (3,)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"windows": WINDOWS[0]}, r"are an array of \(2, 40\)"),
        ({"windows": WINDOWS[:0]}, "none of them 0"),
        ({"windows": WINDOWS / 0}, "30 of 30 windows of 'series' hold infinite numbers"),
        ({"labels": [1, 2]}, r"the labels of 'series' have the shape \(2,\), and there are 30 windows"),
        ({"labels": np.array([None] * 30)}, "are of type object; give words or numbers"),
        ({"groups": {"subject": [1]}}, r"the subjects of 'series' have the shape \(1,\)"),
        ({"ids": [1]}, "the ids of 'series' are 1 and the windows 30"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        SeriesSource(**{"windows": WINDOWS, **values})


def test_gaps_among_groups_and_methods_without_a_mask_are_told() -> None:
    with pytest.raises(UserError, match="1 of the 30 windows have no value among the subjects of 'series'"):
        SeriesSource(WINDOWS, groups={"subject": np.array(["a", None, *["b"] * 28], dtype=object)})
    with pytest.raises(UserError, match="1 of the 30 windows have no value among the trials"):
        SeriesSource(WINDOWS, groups={"trial": [float("nan"), *range(29)]})
    require_complete(SeriesSource(WINDOWS), "timeseries/pair")
    gaps = WINDOWS.clone()
    gaps[0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="timeseries/pair reads windows without missing values, and those of 'series' have some"):
        require_complete(SeriesSource(gaps), "timeseries/pair")


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match="a batch of 1 windows cannot be shared by 2 ranks"):
        next(SeriesSource(WINDOWS).batches(Epoch(batch_size=1, ranks=2)))


@pytest.mark.parametrize("name", SHIFTS)
def test_shifts(name: str) -> None:
    source = SeriesSource(WINDOWS, LABELS)
    slight, strong = (source.corrupted(name, severity, 0) for severity in (1, 5))
    assert torch.equal(slight.windows, source.corrupted(name, 1, 0).windows)
    assert not torch.equal(slight.windows, source.corrupted(name, 1, 1).windows)
    assert (strong.windows - WINDOWS).abs().mean() > (slight.windows - WINDOWS).abs().mean() > 0
    assert torch.equal(slight.labels, source.labels)
    with pytest.raises(UserError, match="severities 1 to 5"):
        source.corrupted(name, 6, 0)


def test_controls_are_of_every_window_and_end_where_there_is_no_spectrum() -> None:
    controls = SeriesSource(WINDOWS, rate=25.0, band=(1.0, 5.0)).controls()
    assert {name: make().shape for name, make in controls.items()} == {
        "log spectrum": (30, 14),
        "tapered spectrum": (30, 14),
        "statistics + spectrum": (30, 36),
    }
    assert SeriesSource(WINDOWS[..., :1]).controls() == {}


def test_minirocket_is_absent_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "aeon.transformations.collection.convolution_based", None)
    predict = SeriesSource(WINDOWS).baselines()["MiniRocket"]
    with pytest.raises(UserError, match=r"needs the package 'aeon', which is not installed; pip install 'anyview\[minirocket\]'"):
        predict(torch.arange(20), np.arange(20) % 2, 0)
