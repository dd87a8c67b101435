"""The linear probe: against scikit-learn, traced gradients, the epoch rule, several answers, and the published floor on Cora."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from anyview.data.splits import Split
from anyview.evaluation import linear as module
from anyview.evaluation.linear import Layer, fit_linear, gradient, linear
from anyview.evaluation.protocol_data import ProtocolData


def test_agrees_with_scikit_learn_on_easy_data(blobs):
    data = blobs(separation=9.0)
    reference = LogisticRegression().fit(*data.part("train")).score(*data.part("test"))
    assert reference > 0.9
    assert linear(data, 0)["accuracy"] == pytest.approx(reference, abs=0.03)


def test_converges_to_the_optimum():
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(200, 5)), random.integers(0, 3, 200)
    targets = torch.nn.functional.one_hot(torch.from_numpy(labels)).double()
    nothing = (np.empty((0, 5)), np.empty(0, dtype=int))
    fit = fit_linear(torch.from_numpy(rows), targets, nothing, softmax=True, seed=0, lr=0.001, weight_decay=0.0, epochs=6000)
    reference = LogisticRegression(C=1e8, tol=1e-8).fit(rows, labels)
    expected = reference.predict_proba(rows)
    np.testing.assert_allclose(fit.last.logits(torch.from_numpy(rows)).softmax(1).numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("softmax", [True, False])
def test_written_gradient_is_the_traced_one(softmax):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(20, 6, dtype=torch.float64, generator=generator)
    weight, bias = torch.randn(4, 6, dtype=torch.float64, generator=generator), torch.randn(4, dtype=torch.float64, generator=generator)
    classes = torch.randint(0, 4, (20,), generator=generator)
    targets = torch.nn.functional.one_hot(classes, 4).double()
    weight.requires_grad_(), bias.requires_grad_()
    logits = rows @ weight.T + bias
    if softmax:
        loss = -logits.log_softmax(1)[torch.arange(20), classes].mean()
    else:
        loss = -(targets * logits.sigmoid().log() + (1 - targets) * (-logits).sigmoid().log()).mean()
    expected = torch.autograd.grad(loss, (weight, bias))
    written = gradient(Layer(weight.detach(), bias.detach(), softmax), rows, targets)
    torch.testing.assert_close(written, expected, rtol=1e-12, atol=1e-14)


def test_is_full_batch_adam_from_the_seeds_initial_weights(blobs):
    rows, labels = (torch.from_numpy(part) for part in blobs().part("train"))
    rows, targets = rows.double(), torch.nn.functional.one_hot(labels, 4).double()
    nothing = (np.empty((0, 12)), np.empty(0, dtype=int))
    settings = {"softmax": True, "seed": 5, "lr": 0.02}
    start = fit_linear(rows, targets, nothing, **settings, weight_decay=0.0, epochs=0).last
    plain = torch.nn.Linear(12, 4, dtype=torch.float64)
    with torch.no_grad():
        plain.weight.copy_(start.weight), plain.bias.copy_(start.bias)
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.02, weight_decay=0.1)
    for _ in range(25):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(plain(rows), labels).backward()
        optimiser.step()
    fit = fit_linear(rows, targets, nothing, **settings, weight_decay=0.1, epochs=25)
    torch.testing.assert_close(fit.last.weight, plain.weight.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(fit.last.bias, plain.bias.detach(), rtol=1e-9, atol=1e-12)


def test_best_epoch_is_the_later_of_equals(blobs, monkeypatch):
    answers = iter([0.5, 0.7, 0.6, 0.7, 0.2])
    monkeypatch.setattr(module, "measure", lambda *_: next(answers))
    assert linear(blobs(), 0, epochs=5)["best_epoch"] == 4


def test_best_epoch_is_scored_with_its_own_weights(blobs):
    data = blobs(separation=1.5)
    scores = linear(data, 1, epochs=60)
    best = int(scores["best_epoch"])
    assert best < 60
    assert linear(data, 1, epochs=best)["accuracy"] == scores["accuracy_best_validation"]


def test_without_validation_there_is_only_the_last_epoch(blobs):
    data = blobs()
    split = Split(data.split.train, data.split.validation[:0], data.split.test)
    found = linear(ProtocolData(data.rows, data.labels, split, 4), 0, epochs=3)
    assert next(iter(found)) == "accuracy"
    assert not {"accuracy_best_validation", "best_epoch"} & set(found)


def test_leaves_the_global_random_state_alone_and_follows_its_seed(blobs):
    data = blobs(separation=1.0)
    before = torch.get_rng_state()
    first, second, third = (linear(data, seed, epochs=2) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == second != third


def test_several_answers_are_scored_by_micro_f1(blobs):
    base = blobs(samples=400, separation=6.0)
    answers = np.stack([base.labels % 2, base.labels // 2, base.labels == 3], axis=1).astype(np.int64)
    data = ProtocolData(base.rows, answers, base.split, 3)
    fit_scores = linear(data, 0)
    assert list(fit_scores) == ["micro_f1", "micro_f1_best_validation", "best_epoch"]
    assert fit_scores["micro_f1"] > 0.9


def test_micro_f1_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 2, (50, 6)), random.integers(0, 2, (50, 6))
    data = ProtocolData(np.zeros((50, 1)), truth, Split(*[torch.arange(50)] * 3), 6)
    assert data.score(predicted) == pytest.approx(f1_score(truth, predicted, average="micro"))


def test_raw_features_of_cora_reach_the_known_floor(cora):
    scores = [linear(cora, seed)["accuracy"] for seed in range(3)]
    assert np.mean(scores) == pytest.approx(0.533, abs=0.01)
