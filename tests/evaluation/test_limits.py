"""Options out of range become one sentence, for every protocol and before anything is computed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anyview.errors import UserError
from anyview.evaluation.cluster import cluster
from anyview.evaluation.corruption import corruption
from anyview.evaluation.finetune import finetune
from anyview.evaluation.knn import knn
from anyview.evaluation.label_fraction import label_fraction
from anyview.evaluation.limits import Limits, numbers
from anyview.evaluation.linear import linear
from anyview.evaluation.logistic import logistic
from anyview.evaluation.ood import ood
from anyview.evaluation.protocol import check_options, evaluate_rows


@pytest.mark.parametrize(
    ("protocol", "option", "value", "words"),
    [
        (linear, "lr", -1.0, "above 0"),
        (linear, "lr", math.nan, "above 0"),
        (linear, "weight_decay", -0.1, "at least 0"),
        (linear, "epochs", 0, "at least 1"),
        (knn, "k", 0, "at least 1"),
        (knn, "temperature", 0.0, "above 0"),
        (logistic, "max_iter", 0, "at least 1"),
        (cluster, "restarts", 0, "at least 1"),
        (finetune, "epochs", 0, "at least 1"),
        (finetune, "batch_size", 1, "at least 2"),
        (finetune, "layer_decay", 1.5, "above 0 and at most 1"),
        (label_fraction, "max_iter", -3, "at least 1"),
        (ood, "k", 0, "at least 1"),
        (ood, "left_out", 0, "at least 1"),
        (corruption, "max_iter", 0, "at least 1"),
    ],
)
def test_numbers_out_of_range_are_one_sentence(protocol, option, value, words):
    with pytest.raises(UserError, match=f"the protocol {protocol.__name__} takes {option} {words}, and was given"):
        check_options(protocol, {option: value})


@pytest.mark.parametrize("protocol", [linear, logistic, knn, cluster, finetune, label_fraction, ood, corruption])
def test_defaults_are_within_their_limits(protocol):
    check_options(protocol, {})


def test_the_frame_checks_before_it_asks_for_rows():
    def rows(seed: int) -> np.ndarray:
        raise AssertionError("rows were asked for")

    with pytest.raises(UserError, match="takes k at least 1, and was given 0"):
        evaluate_rows({"trained encoder": rows}, np.arange(10) % 2, lambda _: None, knn, [0], {"k": 0})


def test_lists_of_numbers():
    limits = Limits(above=0, at_most=100)
    assert numbers("p", "o", "1, 10,100", limits) == [1, 10, 100]
    assert numbers("p", "o", 5, limits) == numbers("p", "o", [5.0], limits) == [5]
    with pytest.raises(UserError, match="takes o above 0 and at most 100, and was given 0"):
        numbers("p", "o", "10,0", limits)
    for words in ("ten", "", "1,,2", None):
        with pytest.raises(UserError, match="takes numbers with commas as o"):
            numbers("p", "o", words, limits)


def test_infinity_lies_within_no_limits():
    assert not Limits(above=0).allow(math.inf)
    assert Limits(at_least=1, below=2).words == "at least 1 and below 2"
