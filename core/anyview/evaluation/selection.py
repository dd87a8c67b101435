"""The best of several runs without labels: ranked by a label-free metric, with how sure the order is.

Garrido et al. (2022, arXiv 2210.02885) choose hyper-parameters of one method on one data set by RankMe of training embeddings; Thilak et
al. (2023, arXiv 2312.04000) do so by LiDAR. Neither says which of two methods, or of two data sets, is better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import kendalltau

from anyview.encoders.encoder import Encoder
from anyview.errors import UserError, unknown
from anyview.evaluation.augmented import SAMPLES as SAMPLES_OF_VIEWS
from anyview.evaluation.augmented import AugmentedRows, augmented_rows
from anyview.evaluation.bootstrap import halves, interval, spread_around
from anyview.evaluation.embedding import choose_device, embed
from anyview.evaluation.lidar import LEAST_SIGNAL
from anyview.evaluation.metrics import Metric, Part, Values, find_metric
from anyview.evaluation.spectra import ROWS_PER_COLUMN
from anyview.evaluation.subject import UntrainedEncoder
from anyview.views.draws import derive_seed

if TYPE_CHECKING:
    from anyview.run import Run

SAMPLES = 10_000
"""Rows that a spectrum is taken of, at most."""

NOT_SURE = 0.95
"""Below this probability that the first is the best, the order is told to be open."""

TIE = 1e-9
"""Values that differ by less than this share of them are the same but for rounding."""

ROWS = {"encoder": "encoder rows", "projector": "projections"}
"""Which rows a metric may be taken of, and what they are called."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A run in the order.

    settings: what tells it from the other runs. rank: from 1, None where the metric says nothing of it. low, high: 95 % interval.
    untrained: the control, the metric of the same encoder before training; None for a metric of several runs. parts: what the value is
    made of, or is read with. samples, width: of the rows that the value is of.
    """

    run: str
    settings: dict[str, Any]
    rank: int | None
    value: float
    low: float
    high: float
    untrained: float | None
    parts: dict[str, float]
    samples: int
    width: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Runs in order, best first.

    best: what the best has of the metric. rows: which rows it is of. probability: that the first is really the best, as far as the samples
    decide. halves: how many it was taken over. agreement: Kendall's tau with the order by the metric `second`, -1 to 1.
    """

    metric: str
    best: str
    rows: str
    runs: list[Ranked]
    probability: float
    halves: int
    second: str
    agreement: float
    warnings: list[str]


@dataclass(slots=True)
class _Measured:
    """One run's parts (P,), those of every half (H, P) and those of its encoder before training (P,), and sizes."""

    parts: np.ndarray
    replicates: np.ndarray
    untrained: np.ndarray
    samples: int
    width: int


def select(
    runs: Sequence[Run],
    metric: str = "rankme",
    *,
    rows: str = "encoder",
    second: str | None = None,
    samples: int = SAMPLES,
    views: int = 50,
    count: int = 200,
    seed: int = 0,
    device: str = "auto",
) -> Selection:
    """Rank finished runs by a label-free metric of their rows on the data that each was trained on.

    rows: the encoder's, or the projector's, which the loss compared and RankMe was published for. metric, second: names of METRICS; None
    takes participation_ratio, or rankme beside that, alpha_req and clid. samples: rows at most, or samples whose views are drawn (then at
    most 1000); views: of each. count: random halves of the samples that intervals and probability are taken over, the same halves for all
    runs on equal data. seed: of rows, views and halves.

    Raises UserError with fewer than two runs, with one run twice, for unknown metrics, and where fewer than two are left to rank.
    """
    chosen, other = find_metric(metric), find_metric(second or _companion(metric))
    _check(runs, chosen, other, rows, samples, views, count)
    measured = [_measure(run, chosen, rows, samples, views, count, seed, device) for run in runs]
    silent = {number: why for number, one in enumerate(measured) if (why := _silent(chosen, one))}
    spoken = [number for number in range(len(runs)) if number not in silent]
    if len(spoken) < 2:
        why = next(iter(silent.values()))
        raise UserError(f"{metric} says nothing of {len(silent)} of {len(runs)} runs ({why}); choose another --metric")
    values, replicates = _combined(chosen, [measured[number] for number in spoken])
    goodness = chosen.goodness(values)
    order = list(np.argsort(-goodness, kind="stable"))
    names, settings = names_of(runs), differing([settings_of(run) for run in runs])
    ranked = []
    for rank, place in enumerate(order, start=1):
        n = spoken[place]
        ranked.append(_ranked(chosen, names[n], settings[n], measured[n], rank, values[place], replicates[:, place]))
    unranked = [_ranked(chosen, names[n], settings[n], measured[n], None) for n in silent]
    others = [_measure(runs[n], other, rows, samples, views, 0, seed, device) for n in spoken]
    return Selection(
        metric=metric,
        best=chosen.best,
        rows=f"{ROWS[rows]} of " + ("augmented views of the training data" if chosen.views else "the training data, not augmented"),
        runs=[*ranked, *unranked],
        probability=_probability(chosen, values, replicates, int(order[0])),
        halves=count,
        second=other.name,
        agreement=_agreement(goodness, other.goodness(_combined(other, others)[0])),
        warnings=[*_warnings(runs, ranked, chosen), *(f"{names[n]} is not ranked: {why}" for n, why in silent.items())],
    )


def metric_value(run: Run, metric: str, *, samples: int = SAMPLES, seed: int = 0, device: str = "auto") -> float:
    """A label-free metric of one run's rows on the data that it was trained on; samples, seed: as in `select`.

    Raises UserError for unknown metrics, for those of several runs, and where the metric says nothing of the run.
    """
    chosen = find_metric(metric)
    if chosen.of_several:
        raise UserError(f"{metric} compares several runs, and one alone has no such number; choose another metric, such as rankme")
    measured = _measure(run, chosen, "encoder", samples, 50, 0, seed, device)
    if (why := _silent(chosen, measured)) is not None:
        raise UserError(f"{metric} says nothing of the run ({why})")
    return float(chosen.combine(measured.parts[:, None])[0])


def _companion(metric: str) -> str:
    return "rankme" if metric in ("participation_ratio", "alpha_req", "clid") else "participation_ratio"


def _check(runs: Sequence[Run], metric: Metric, second: Metric, rows: str, samples: int, views: int, count: int) -> None:
    if len(runs) < 2:
        raise UserError(f"select compares runs by one metric, and {len(runs)} was given; name two or more")
    paths = [run.folder.path.resolve() for run in runs]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise UserError(f"the run {str(twice)!r} was named twice; name each run once")
    if rows not in ROWS:
        raise unknown("kind of rows", rows, ROWS, look="anyview select --help")
    if metric.name == second.name:
        raise UserError(f"agreement is told with a second metric, and both are {metric.name}; choose another --second")
    for what, value, least in (("--samples", samples, 8), ("--views", views, 2), ("--halves", count, 20)):
        if value < least:
            raise UserError(f"{what} takes at least {least}, and was given {value}")


def _measure(run: Run, metric: Metric, kind: str, samples: int, views: int, count: int, seed: int, device: str) -> _Measured:
    """The metric's parts of one run, whole and on every half."""
    own = kind == "encoder"
    encoder = run.embedder if own else run.projected_encoder()
    shown = _shown(run, encoder, metric, samples, views, seed, device)
    rows = shown.rows if isinstance(shown, AugmentedRows) else shown
    found, width = len(rows), rows.shape[-1]
    if found < 8:
        raise UserError(f"the run {str(run.folder.path)!r} has {found} samples, and halves of them say nothing; select needs at least 8")
    value: Callable[[Part], Values] = metric.prepare(shown, seed)
    replicates = [value(half) for half in halves(found, count, seed, run.source.fingerprint())]
    whole = np.array(value(None))
    fresh = UntrainedEncoder(run.fresh_encoder if own else run.fresh_projected_encoder, run.source).encoder(seed)
    before = metric.prepare(_shown(run, fresh, metric, samples, views, seed, device), seed)(None) if count and not metric.of_several else ()
    return _Measured(whole, np.array(replicates).reshape(count, len(whole)), np.array(before), found, width)


def _shown(run: Run, encoder: Encoder, metric: Metric, samples: int, views: int, seed: int, device: str) -> np.ndarray | AugmentedRows:
    """The rows that the metric is taken on: of some of the run's data, clean or augmented."""
    on = choose_device(device)
    if metric.views:
        return augmented_rows(
            encoder, run.source, run.view_maker, samples=min(samples, SAMPLES_OF_VIEWS), views=views, seed=seed, device=on
        )
    rows, most = embed(encoder, run.source, device=on), min(samples, metric.most_rows)
    rows = rows if run.source.train_rows is None else rows[run.source.train_rows.numpy()]
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(derive_seed(seed, run.source.fingerprint())).permutation(len(rows))[:most])]


def _silent(metric: Metric, measured: _Measured) -> str | None:
    """Why the metric says nothing of a run; None where it does."""
    parts = dict(zip(metric.parts, measured.parts, strict=False))
    if metric.name == "lidar" and parts["signal_ratio"] < LEAST_SIGNAL:
        return f"its signal ratio is {parts['signal_ratio']:.2f}, and below {LEAST_SIGNAL:g} LiDAR ranks noise"
    if not np.isfinite(measured.parts).all() or not np.isfinite(measured.replicates).all():
        return f"{metric.name} does not exist for its {measured.samples} rows of width {measured.width}"
    return None


def _combined(metric: Metric, measured: Sequence[_Measured]) -> tuple[np.ndarray, np.ndarray]:
    """The metric of every run (R,), and of every run on every half (H, R)."""
    values = metric.combine(np.stack([one.parts for one in measured], 1))
    parts = np.stack([one.replicates for one in measured], 2)  # (H, P, R)
    replicates = [metric.combine(half) for half in parts]
    return values, np.array(replicates).reshape(len(parts), len(measured))


def _probability(metric: Metric, values: np.ndarray, replicates: np.ndarray, first: int) -> float:
    """Share of the halves in which the first run is the best, when every run's replicates are moved to its value.

    A half in which m runs are equally good counts 1 / m: runs that are the same are not told apart.
    """
    moved = np.stack([spread_around(value, column) for value, column in zip(values, replicates.T, strict=True)], 1)
    goodness = metric.goodness(moved)
    best = goodness.max(1, keepdims=True)
    ties = goodness >= best - TIE * np.abs(best)
    return float(np.mean(ties[:, first] / ties.sum(1)))


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Kendall's tau-b; 0 where one of the two tells no runs apart."""
    tau = float(kendalltau(one, other).statistic)
    return tau if np.isfinite(tau) else 0.0


def _ranked(
    metric: Metric,
    name: str,
    settings: dict[str, Any],
    measured: _Measured,
    rank: int | None,
    value: float | None = None,
    replicates: np.ndarray | None = None,
) -> Ranked:
    found = float(measured.parts[0]) if value is None else float(value)
    low, high = (float("nan"), float("nan")) if replicates is None else interval(found, replicates)
    parts = dict(zip(metric.parts, map(float, measured.parts), strict=False))
    untrained = float(measured.untrained[0]) if len(measured.untrained) else None
    return Ranked(name, settings, rank, found, low, high, untrained, parts, measured.samples, measured.width)


def _warnings(runs: Sequence[Run], ranked: Sequence[Ranked], metric: Metric) -> list[str]:
    told = []
    data = {run.source.fingerprint(): run.source.name for run in runs}
    if len(data) > 1:
        told.append(f"the runs were trained on different data ({', '.join(data.values())}), and label-free metrics do not compare data")
    methods = {methods_of(run) for run in runs}
    if len(methods) > 1:
        named = " and ".join(sorted(", ".join(method) for method in methods))
        told.append(f"the runs are of different methods ({named}), and label-free metrics compare settings of one method")
    first = ranked[0]
    if first.untrained is not None and metric.goodness(np.array([first.value])) <= metric.goodness(np.array([first.untrained])):
        before = f"{first.untrained:.4g}, and {first.run} {first.value:.4g}"
        told.append(
            f"the same encoder before training has {metric.name} {before}: by this metric it did not learn, and the order says little"
        )
    few = [one for one in ranked if one.samples < ROWS_PER_COLUMN * one.width]
    if few:
        sizes = f"{few[0].samples} samples of width {few[0].width}"
        says = f"{metric.name} says as much of their number as of the rows"
        told.append(f"there are fewer than {ROWS_PER_COLUMN} samples per column ({sizes}), so {says}")
    return told


def methods_of(run: Run) -> tuple[str, ...]:
    """The classes of the objectives that a run's last stage was trained on."""
    return tuple(sorted({type(task.objective).__name__ for task in run.recipe.stages[-1].tasks}))


def names_of(runs: Sequence[Run]) -> list[str]:
    """What the runs' folders are called, with as much of their path as tells them apart."""
    paths = [run.folder.path.resolve() for run in runs]
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def settings_of(run: Run) -> dict[str, Any]:
    """Recipe, seed and parameters of a run, options of slots as "slot.option"."""
    record = run.record
    settings: dict[str, Any] = {"recipe": record["recipe"], "seed": record["seed"]}
    for name, value in record["parameters"].items():
        options = dict(value) if isinstance(value, Mapping) else {"name": value}
        settings[name] = options.pop("name", None)
        settings.update({f"{name}.{option}": setting for option, setting in options.items()})
    return settings


def differing(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of every run the settings that are not the same in all of them; of runs of different recipes those alone that all have.

    >>> differing([{"lr": 1, "width": 8}, {"lr": 2, "width": 8}])
    [{'lr': 1}, {'lr': 2}]
    """
    names = dict.fromkeys(name for one in settings for name in one)
    if len({one.get("recipe") for one in settings}) > 1:
        names = dict.fromkeys(name for name in names if all(name in one for one in settings))
    apart = [name for name in names if any(one.get(name, ...) != settings[0].get(name, ...) for one in settings)]
    return [{name: one[name] for name in apart if name in one} for one in settings]
