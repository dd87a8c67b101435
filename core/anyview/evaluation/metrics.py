"""The label-free metrics by name: those that runs are ranked by, and those that `evaluate --metrics` adds to a summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyview.errors import unknown
from anyview.evaluation.alpha_req import alpha_req_of
from anyview.evaluation.augmented import AugmentedRows
from anyview.evaluation.clid import clid, cluster_learnability, dimension_of, intrinsic_dimension, prequential_accuracy, pseudo_labels
from anyview.evaluation.lidar import LiDAR, lidar
from anyview.evaluation.neighbourhoods import EXACT, hubness, self_retrieval
from anyview.evaluation.rows import Rows, float64, unit
from anyview.evaluation.spectra import entropy_rank_of, participation_ratio_of, rankme_of, singular_values, stable_rank_of
from anyview.evaluation.sphere import measured_alignment, measured_uniformity

NEIGHBOUR_ROWS = 4000
"""Metrics of neighbours look at this many rows at most, drawn by seed: they cost the square of it."""

Part = np.ndarray | None
"""Numbers of the samples that a metric is taken over, (n,); None = all."""

Values = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A label-free metric that runs can be ranked by.

    best: what the best run has of it ("the largest", ...). prepare: from rows (N, K), or rows of augmented views where `views` is set, and
    a seed, to a function that gives the metric's parts for some of the samples. parts: their names. combine: from parts (P, R) of R runs
    to the metric (R,). goodness: from the metric (R,) to numbers that are larger the better. most_rows: it is taken on no more than these.
    of_several: a run alone has no such number.
    """

    name: str
    best: str
    prepare: Callable[[Any, int], Callable[[Part], Values]]
    views: bool = False
    parts: tuple[str, ...] = ()
    combine: Callable[[np.ndarray], np.ndarray] = lambda parts: parts[0]
    goodness: Callable[[np.ndarray], np.ndarray] = lambda values: values
    most_rows: int = 10**9
    of_several: bool = False


def _spectral(of: Callable[[Tensor, int], float], *, centred: bool = True) -> Callable[[Rows, int], Callable[[Part], Values]]:
    """A metric that is a function of the singular values and the width of the rows."""

    def prepare(rows: Rows, _seed: int) -> Callable[[Part], Values]:
        z = float64(rows)
        return lambda part: (of(singular_values(z if part is None else z[part], centred=centred), z.shape[1]),)

    return prepare


def _alpha(values: Tensor, width: int) -> float:
    alpha = alpha_req_of(values.square(), width).alpha
    return float("nan") if alpha is None else alpha


def _lidar(views: AugmentedRows, _seed: int) -> Callable[[Part], Values]:
    def value(part: Part) -> Values:
        found = lidar_of_views(views, part)
        return found.lidar, found.signal_ratio, found.relative_delta

    return value


def lidar_of_views(views: AugmentedRows, part: Part = None) -> LiDAR:
    """LiDAR of all or some of the samples of augmented views."""
    some = views if part is None else AugmentedRows(views.rows[part], views.index[part])
    return lidar(*some.flat)


def _self_retrieval(views: AugmentedRows, _seed: int) -> Callable[[Part], Values]:
    first, second = two_views(views)
    return lambda part: (self_retrieval(first if part is None else first[part], second if part is None else second[part]),)


def two_views(views: AugmentedRows) -> tuple[Tensor, Tensor]:
    """The first two views of every sample, (n, K) each."""
    return views.rows[:, 0], views.rows[:, 1]


def _hubness(rows: Rows, _seed: int) -> Callable[[Part], Values]:
    z = float64(rows)
    return lambda part: (hubness(z if part is None else z[part], k=min(10, len(z) // 4)),)


def _clid(rows: Rows, seed: int) -> Callable[[Part], Values]:
    """Cluster learnability and intrinsic dimension; clusters are those of all rows, whatever part is asked for."""
    z = float64(rows)
    labels = pseudo_labels(z, seed=seed)
    order = np.random.default_rng(seed).permutation(len(z))
    first_of_twins = torch.from_numpy(np.isin(np.arange(len(z)), np.unique(z.numpy(), axis=0, return_index=True)[1]))
    unit_rows = unit(z)
    distances = torch.cdist(z, z, compute_mode=EXACT).fill_diagonal_(torch.inf)

    def value(part: Part) -> Values:
        there = np.arange(len(z)) if part is None else part
        ordered = torch.from_numpy(order[np.isin(order, there)])
        alone = torch.from_numpy(there)[first_of_twins[there]]
        nearest = distances[alone][:, alone].topk(2, 1, largest=False).values
        return prequential_accuracy(unit_rows[ordered], labels[ordered]), dimension_of(nearest)

    return value


def _near_one(values: np.ndarray) -> np.ndarray:
    return -np.abs(values - 1)


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("rankme", "the largest", _spectral(lambda values, _: rankme_of(values), centred=False)),
        Metric("entropy_rank", "the largest", _spectral(lambda values, _: entropy_rank_of(values))),
        Metric("participation_ratio", "the largest", _spectral(lambda values, _: participation_ratio_of(values))),
        Metric("nesum", "the largest", _spectral(lambda values, _: stable_rank_of(values))),
        Metric("alpha_req", "the nearest to 1", _spectral(_alpha), goodness=_near_one),
        Metric("lidar", "the largest", _lidar, views=True, parts=("lidar", "signal_ratio", "relative_delta")),
        Metric(
            "clid",
            "the largest",
            _clid,
            parts=("cluster_learnability", "intrinsic_dimension"),
            combine=lambda parts: clid(parts[0], parts[1]),
            most_rows=NEIGHBOUR_ROWS,
            of_several=True,
        ),
        Metric("self_retrieval", "the largest", _self_retrieval, views=True),
        Metric("hubness", "the smallest", _hubness, goodness=np.negative, most_rows=NEIGHBOUR_ROWS),
    )
}
"""What runs can be ranked by."""


def find_metric(name: str) -> Metric:
    """A metric by name; raises UserError that names the nearest ones."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS, look="anyview select --help")
    return METRICS[name]


def _measured(name: str, measured: Any) -> dict[str, Any]:
    return {name: measured.value, f"{name}_interval": [measured.low, measured.high], f"{name}_samples": measured.samples}


def _told_lidar(views: AugmentedRows) -> dict[str, Any]:
    told = asdict(lidar_of_views(views))
    return {"lidar": told.pop("lidar"), **{f"lidar_{name}": value for name, value in told.items()}}


def _told_clid(rows: Tensor) -> dict[str, Any]:
    found = intrinsic_dimension(rows)
    parts = {"cluster_learnability": cluster_learnability(rows), "intrinsic_dimension": found.dimension, "duplicates": found.duplicates}
    return {**parts, "clid_samples": len(rows)}


OF_ROWS: Mapping[str, Callable[[Tensor], dict[str, Any]]] = {
    "uniformity": lambda rows: _measured("uniformity", measured_uniformity(rows)),
    "hubness": lambda rows: {"hubness": hubness(few(rows)), "hubness_samples": len(few(rows))},
    "clid": lambda rows: _told_clid(few(rows)),
}
OF_VIEWS: Mapping[str, Callable[[AugmentedRows], dict[str, Any]]] = {
    "lidar": _told_lidar,
    "alignment": lambda views: _measured("alignment", measured_alignment(*two_views(views))),
    "self_retrieval": lambda views: {"self_retrieval": self_retrieval(*two_views(views)), "self_retrieval_samples": len(views.rows)},
}


def check_more(names: Sequence[str]) -> None:
    """Raise UserError for a name that `more_label_free` does not know."""
    for name in names:
        if name not in (*OF_ROWS, *OF_VIEWS):
            raise unknown("metric", name, (*OF_ROWS, *OF_VIEWS), look="anyview evaluate --help")


def more_label_free(names: Sequence[str], rows: Rows, views: Callable[[], AugmentedRows]) -> dict[str, Any]:
    """The label-free metrics that cost more than a spectrum, ready for JSON.

    names: of OF_ROWS, taken on rows (N, K), and OF_VIEWS, taken on rows of augmented views, which are made only when they are needed.
    """
    check_more(names)
    z = float64(rows)
    found: dict[str, Any] = {}
    for name in names:
        found |= OF_ROWS[name](z) if name in OF_ROWS else {}
    if shown := [name for name in names if name in OF_VIEWS]:
        made = views()
        for name in shown:
            found |= OF_VIEWS[name](made)
    return found


def few(rows: Tensor, seed: int = 0) -> Tensor:
    """At most NEIGHBOUR_ROWS of rows (N, K), drawn with the seed, in their order."""
    if len(rows) <= NEIGHBOUR_ROWS:
        return rows
    return rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:NEIGHBOUR_ROWS])]
