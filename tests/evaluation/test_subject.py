"""Subjects: rows by seed, rows of other data by the same encoder, and encoders of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anyview.data.arrays import ArraySource
from anyview.encoders.encoder import Encoder
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.evaluation.embedding import embed
from anyview.evaluation.subject import OTHER_SOURCES, RawFeatures, TrainedEncoder, UntrainedEncoder


def build() -> Encoder:
    return MLP(5, hidden=8, dim=3)


def rows(samples: int, seed: int = 0, width: int = 5) -> ArraySource:
    return ArraySource(np.random.default_rng(seed).normal(size=(samples, width)), name=f"rows {seed}")


@pytest.fixture
def source() -> ArraySource:
    return rows(20)


def test_a_trained_encoder_is_the_same_for_every_seed(source, monkeypatch):
    asked = []
    monkeypatch.setattr("anyview.evaluation.subject.embed", lambda *given, **options: asked.append(given[1]) or embed(*given, **options))
    encoder = build()
    subject = TrainedEncoder(encoder, source)
    np.testing.assert_array_equal(subject(0), embed(encoder, source))
    assert subject(3) is subject(0)
    other = rows(7, 1)
    np.testing.assert_array_equal(subject.origin(4).embed(other), embed(encoder, other))
    assert subject.origin(5).embed(other) is subject.origin(4).embed(other)
    assert subject.origin(0).embed(source) is subject(0)
    assert asked == [source, other]


def test_its_origin_hands_out_copies(source):
    encoder = build()
    made = TrainedEncoder(encoder, source).origin(0).encoder()
    assert made is not encoder
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), encoder.state_dict().values(), strict=True))
    made.last.weight.data.zero_()
    assert encoder.last.weight.abs().sum() > 0


def test_untrained_encoders_follow_the_seed_and_leave_the_global_generator(source):
    built = []
    subject = UntrainedEncoder(lambda: built.append(0) or build(), source)
    state = torch.get_rng_state()
    first, other = subject(0), subject(1)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first, UntrainedEncoder(build, source)(0))
    assert not np.array_equal(first, other)
    subject(0)
    assert len(built) == 2
    elsewhere = rows(6, 2)
    np.testing.assert_array_equal(subject.origin(1).embed(elsewhere), embed(subject.origin(1).encoder(), elsewhere))


def test_raw_features_have_no_encoder_and_one_width(source):
    subject = RawFeatures(source)
    np.testing.assert_array_equal(subject(2), source.features())
    assert subject.origin(0).encoder is None
    with pytest.raises(UserError, match="'rows 1' has 4 raw features and 'rows 0' 5"):
        subject.origin(0).embed(rows(7, 1, width=4))


def test_only_the_latest_other_sources_are_kept(source):
    subject = RawFeatures(source)
    others = [rows(3, seed) for seed in range(1, OTHER_SOURCES + 3)]
    for other in others:
        np.testing.assert_array_equal(subject.origin(0).embed(other), other.features())
    assert [kept for kept, _ in subject._others.values()] == others[2:]


def test_data_is_opened_by_the_run_or_not_at_all(source):
    other = rows(4, 1)
    assert RawFeatures(source, open={"other": other}.get).origin(0).open("other") is other
    assert RawFeatures(source).origin(0).open(other) is other
    with pytest.raises(UserError, match="'other' was asked for by name"):
        RawFeatures(source).origin(0).open("other")
