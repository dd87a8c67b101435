"""The summary: every number, ready for JSON, with what makes it readable."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest
import torch

from anyview.errors import UserError
from anyview.evaluation.alpha_req import alpha_req
from anyview.evaluation.label_free import LabelFree, label_free
from anyview.evaluation.spectra import centred_rankme, entropy_rank, rankme, stable_rank, uncentred_stable_rank
from tests.evaluation.plain import normal


def test_label_free_holds_every_number_and_is_ready_for_json():
    rows = normal(200, 16).float()
    rows[:, 3] = 0.5
    summary = label_free(rows, what="these")
    assert list(summary) == [field.name for field in fields(LabelFree)]
    assert json.loads(json.dumps(summary)) == summary
    facts = ("rows", "samples", "width", "dtype", "epsilon")
    assert tuple(summary[name] for name in facts) == ("these", 200, 16, "float32", 1e-7)
    assert summary["rankme"] == rankme(rows)
    assert summary["rankme_centred"] == centred_rankme(rows)
    assert summary["entropy_rank"] == entropy_rank(rows)
    assert summary["stable_rank"] == stable_rank(rows)
    assert summary["uncentred_stable_rank"] == uncentred_stable_rank(rows)
    law = alpha_req(rows)
    names = ("alpha_req", "alpha_req_r2", "alpha_req_first", "alpha_req_last")
    assert tuple(summary[name] for name in names) == (law.alpha, law.r2, law.first, law.last)
    assert summary["dead_columns"] == 1 / 16
    assert not summary["too_few_rows"]
    assert label_free(rows[:159])["too_few_rows"]
    assert label_free(rows.numpy(), what="these") == summary


def test_no_fit_is_null_in_json():
    summary = label_free(normal(20, 4))
    assert summary["alpha_req"] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_a_large_mean_is_told():
    assert label_free(normal(2000, 64) + 50)["large_mean"]
    assert not label_free(normal(2000, 64))["large_mean"]


def test_label_free_names_how_many_rows_are_not_finite():
    rows = normal(20, 4)
    rows[3, 1], rows[7] = math.nan, math.inf
    with pytest.raises(UserError, match="2 of 20 rows hold NaN or infinity"):
        label_free(rows)


def test_rows_that_are_all_equal_have_finite_numbers():
    assert all(math.isfinite(value) for value in label_free(torch.ones(20, 8)).values() if isinstance(value, float))
