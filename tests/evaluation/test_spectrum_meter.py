"""Spectra of rows in batches and on two ranks, against all rows at once."""

from __future__ import annotations

import pytest
import torch

from anyview.distributed import rank
from anyview.evaluation.label_free import label_free
from anyview.evaluation.spectra import centred_rankme, rankme
from anyview.evaluation.spectrum_meter import SpectrumMeter
from anyview.testing import run_on_ranks
from tests.evaluation.plain import normal

SIZES = [(0, 14), (6, 8), (0, 16), (10, 30), (33, 7), (50, 60)]


@pytest.mark.parametrize("samples", [10, 24, 25, 400])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_streaming_equals_batch(samples, batch):
    rows = (normal(samples, 24) * torch.linspace(0, -8, 24, dtype=torch.float64).exp() + 0.5).float()
    meter = SpectrumMeter(24)
    for part in rows.split(batch):
        meter.add(part)
    assert meter.rankme() == pytest.approx(rankme(rows), rel=1e-6)
    assert meter.rankme(centred=True) == pytest.approx(centred_rankme(rows), rel=1e-6)


@pytest.mark.parametrize("samples", [20, 300])
def test_the_report_agrees_with_label_free(samples):
    rows = normal(samples, 24) + 2
    meter = SpectrumMeter(24)
    meter.add(rows.numpy())
    report = meter.report()
    of_rows_alone = {"rows", "dtype", "mean_standard_deviation", "mean_norm", "dead_columns"}
    assert set(report) == set(label_free(rows)) - of_rows_alone
    assert agrees(report, rows)


def test_few_rows_are_exact_where_the_sum_of_outer_products_is_not():
    rows = normal(8, 16) * 1e-9
    rows[0] += 1
    meter = SpectrumMeter(16, epsilon=1e-12)
    meter.add(rows)
    assert meter.rankme() == pytest.approx(rankme(rows, epsilon=1e-12), rel=1e-12)


def agrees(report: dict, rows: torch.Tensor) -> bool:
    summary = label_free(rows)
    close = {name: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value for name, value in summary.items()}
    return report == {name: close[name] for name in report}


def on_rank() -> list[dict]:
    reports = []
    for sizes in SIZES:
        own = (normal(sum(sizes), 16) + 1).split(sizes)[rank()]
        meter = SpectrumMeter(16)
        for part in own.split(9):
            meter.add(part)
        reports.append(meter.report())
    return reports


def test_two_ranks_equal_one():
    for reports in run_on_ranks(on_rank, 2):
        for sizes, report in zip(SIZES, reports, strict=True):
            assert agrees(report, normal(sum(sizes), 16) + 1), sizes
