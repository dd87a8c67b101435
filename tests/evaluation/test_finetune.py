"""Fine-tuning: it learns what frozen rows cannot give, chooses on validation samples alone, and its control is untrained."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import nn

from anyview.data.arrays import ArraySource
from anyview.data.splits import Split
from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.evaluation.finetune import Network, finetune, parameter_groups
from anyview.evaluation.logistic import logistic
from anyview.evaluation.protocol import MAJORITY, RANDOM, RAW, TRAINED, evaluate_rows
from anyview.evaluation.protocol_data import ProtocolData
from anyview.evaluation.subject import RawFeatures, TrainedEncoder, UntrainedEncoder
from anyview.views.view import View
from tests.evaluation.sources import build, clusters, result_of

QUICK = {"epochs": 15, "batch_size": 64, "lr": "0.003"}


def rings(samples: int = 400) -> ArraySource:
    """Two classes at two distances from the origin: no hyperplane tells them apart."""
    random = np.random.default_rng(0)
    direction = random.normal(size=(samples, 12))
    labels = np.arange(samples) % 2
    radius = np.where(labels, 3.0, 1.0)[:, None]
    return ArraySource(radius * direction / np.linalg.norm(direction, axis=1, keepdims=True), labels, name="rings")


def data_of(source: ArraySource, encoder: Encoder | None = None, seed: int = 0, labels: np.ndarray | None = None) -> ProtocolData:
    torch.manual_seed(1)
    subject = TrainedEncoder(encoder or build(), source)
    given = source.labels.numpy() if labels is None else labels
    return ProtocolData(subject(0), given, source.split(seed), 2 if labels is None else len(np.unique(labels)), subject.origin(seed))


def test_all_weights_learn_what_frozen_rows_do_not_give():
    source = rings()
    frozen = logistic(data_of(source, MLP(12, hidden=2, dim=2)), 0)["accuracy"]
    tuned = finetune(data_of(source), 0, epochs=40, batch_size=64, lr="0.01")
    assert frozen < 0.75
    assert tuned["accuracy"] > 0.9
    assert tuned["best_lr"] == 0.01
    assert 1 <= tuned["best_epoch"] <= 40


def test_the_encoder_that_was_given_is_left_alone():
    encoder = build()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    finetune(data_of(clusters(classes=2), encoder), 0, **QUICK)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_seed_decides_everything_and_the_global_generator_stays():
    data = data_of(clusters(classes=2, separation=2.0))
    state = torch.get_rng_state()
    first, again, other = (finetune(data, seed, **QUICK) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again
    assert first != other


def test_the_untrained_encoder_is_the_control_and_raw_features_have_none():
    source, built = clusters(separation=12.0), []
    columns = {
        TRAINED: TrainedEncoder(build(), source),
        RANDOM: UntrainedEncoder(lambda: built.append(0) or build(), source),
        RAW: RawFeatures(source),
    }
    result = evaluate_rows(columns, source.labels, source.split, finetune, [0, 1], QUICK)
    assert list(result.values) == [TRAINED, RANDOM, MAJORITY]
    assert len(built) == 4  # for each seed its rows and the one that is trained
    assert result.mean(TRAINED) > 0.8
    assert result.mean(RANDOM) > 0.8
    assert result.mean(MAJORITY) == 0.25
    assert result.warnings == []
    lonely = evaluate_rows({TRAINED: TrainedEncoder(build(), clusters())}, clusters().labels, clusters().split, finetune, [0], QUICK)
    assert lonely.warnings == ["the scores stand without these controls: random encoder"]


@pytest.mark.parametrize("validation", [True, False])
def test_permuted_test_labels_change_no_prediction_and_no_choice(monkeypatch, validation):
    source = clusters(classes=2, separation=1.5)
    data = data_of(source)
    if not validation:
        split = Split(data.split.train, data.split.validation[:0], data.split.test)
        data = ProtocolData(data.rows, data.labels, split, 2, data.origin)
    seen: list[np.ndarray] = []
    monkeypatch.setattr(ProtocolData, "score", lambda _, predicted: seen.append(predicted) or 0.0)
    permuted, test = data.labels.copy(), data.split.test.numpy()
    permuted[test] = 1 - permuted[test]
    options = {**QUICK, "lr": "0.0003,0.003"}
    facts = [finetune(ProtocolData(data.rows, labels, data.split, 2, data.origin), 0, **options) for labels in (data.labels, permuted)]
    assert len(seen) == 2
    np.testing.assert_array_equal(*seen)
    assert facts[0] == facts[1]


def test_the_learning_rate_is_chosen_on_validation_samples():
    data = data_of(clusters(classes=2, separation=4.0))
    found = finetune(data, 0, lr="1e-9,0.003", epochs=10, batch_size=64)
    assert found["best_lr"] == 0.003


def test_a_rate_that_diverges_is_passed_over():
    class Fragile(MLP):
        def forward(self, view: View) -> Encoding:
            rows = super().forward(view).rows
            return Encoding(rows * torch.where(self.last.weight.abs().max() > 50, torch.nan, 1.0))

    data = data_of(clusters(classes=2, separation=4.0), Fragile(12, hidden=8, dim=4))
    assert finetune(data, 0, lr="0.003,1000", epochs=5, batch_size=64)["best_lr"] == 0.003
    with pytest.raises(UserError, match="no learning rate at which the loss stayed finite"):
        finetune(data, 0, lr="100000", epochs=5, batch_size=64)


def test_several_answers_are_trained_by_binary_cross_entropy():
    source = clusters(separation=8.0)
    answers = np.stack([source.labels.numpy() % 2, source.labels.numpy() // 2], 1)
    subject = TrainedEncoder(build(), source)
    data = ProtocolData(subject(0), answers, source.split(0), 2, subject.origin(0))
    found = finetune(data, 0, lr="0.01", epochs=20, batch_size=64)
    assert found["micro_f1"] > 0.9


class Graph(ArraySource):
    """One view, whole, as of a graph; an encoder may mix its rows."""

    divisible = False

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        return [View(self.x, role="clean", index=torch.arange(len(self)))]


def test_a_graph_is_tuned_whole_and_only_training_rows_count():
    source = clusters(classes=2, separation=6.0)
    graph = Graph(source.x, source.labels, name="graph")
    seen = []

    class Watched(MLP):
        def forward(self, view: View) -> Encoding:
            seen.append(len(view.data))
            return super().forward(view)

    found = finetune(data_of(graph, Watched(12, hidden=16, dim=4)), 0, lr="0.01", epochs=30)
    assert set(seen) == {300}
    assert found["accuracy"] > 0.9


def test_layers_are_slower_the_more_blocks_follow_and_vectors_do_not_decay():
    network = Network(MLP(4, hidden=3, dim=2, layers=3), 2)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in parameter_groups(network, 0.1, 0.05, 0.5) for p in group["params"]}
    assert len(rates) == len(list(network.parameters()))
    encoder = network.encoder
    assert rates[id(network.head.weight)] == (0.1, 0.05)
    assert rates[id(network.head.bias)] == (0.1, 0.0)
    assert rates[id(encoder.last.weight)] == (0.1, 0.05)
    assert rates[id(encoder.inner[1][0].weight)] == (0.05, 0.05)
    assert rates[id(encoder.inner[0][0].weight)] == (0.025, 0.05)
    assert rates[id(encoder.inner[0][1].weight)] == (0.025, 0.0)
    assert {group["lr"] for group in parameter_groups(network, 0.1, 0.05, 1.0)} == {0.1}


def test_frozen_weights_are_thawed_and_encoders_without_blocks_take_one_rate():
    class Plain(Encoder):
        dim = 4

        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(12, 4).requires_grad_(False)

        def forward(self, view: View) -> Encoding:
            return Encoding(self.map(view.data))

    data = data_of(clusters(classes=2, separation=6.0), Plain())
    assert finetune(data, 0, **QUICK)["accuracy"] > 0.9
    with pytest.raises(UserError, match="Plain has no blocks"):
        finetune(data, 0, **QUICK, layer_decay=0.7)


def test_rows_alone_are_refused():
    source = clusters(classes=2)
    with pytest.raises(UserError, match="finetune needs the encoder of its rows"):
        evaluate_rows({TRAINED: source.features()}, source.labels, source.split, finetune, [0])
    raw = ProtocolData(source.features(), source.labels.numpy(), source.split(0), 2, RawFeatures(source).origin(0))
    with pytest.raises(UserError, match="raw features have none"):
        finetune(raw, 0)
    assert RAW not in result_of(source, finetune, seeds=[0], **QUICK).values
