"""Embedding: evaluation mode, order, and an encoder that comes back as it was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from anyview.data.source import Batch, Epoch, Source
from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.evaluation.embedding import choose_device, embed, moved, require_finite
from anyview.views.view import Mask, View


class Rows(Source):
    """Rows of a tensor."""

    def __init__(self, data: torch.Tensor) -> None:
        self.data, self.shape = data, {"features": data.shape[1]}

    def __len__(self) -> int:
        return len(self.data)

    def steps(self, batch_size: int | None) -> int:
        return 1

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        yield Batch(self.data, rows=len(self))

    def clean(self, batch_size: int = 1024) -> Iterator[View]:
        for part in self.data.split(batch_size):
            yield View({"x": part})

    def features(self) -> np.ndarray:
        return self.data.numpy()

    def fingerprint(self) -> str:
        return "rows"


class Network(Encoder):
    dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))

    def forward(self, view: View) -> Encoding:
        return Encoding(self.module(view.data["x"]))


def build() -> Encoder:
    return Network()


@pytest.fixture
def source() -> Rows:
    return Rows(torch.randn(50, 5, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("batch_size", [1, 7, 1024])
def test_rows_come_in_order_whatever_the_batch_size(source, batch_size):
    encoder = build()
    rows = embed(encoder, source, batch_size=batch_size)
    expected = encoder.eval()(View({"x": source.data})).rows.detach().numpy()
    assert rows.dtype == np.float32
    assert rows.shape == (50, 8)
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_every_module_is_left_in_the_mode_it_came_in(source):
    encoder = build().train()
    encoder.module[1].eval()
    before = [module.training for module in encoder.modules()]
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    embed(encoder, source)
    assert [module.training for module in encoder.modules()] == before
    assert True in before
    assert False in before
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, state[name])


def test_modes_come_back_after_an_error(source):
    class Breaks(Encoder):
        def forward(self, view: View) -> Encoding:
            assert not self.training
            raise RuntimeError("broken")

    encoder = Breaks().train()
    with pytest.raises(RuntimeError, match="broken"):
        embed(encoder, source)
    assert encoder.training


def test_runs_without_gradient_and_gives_float32(source):
    class Half(Encoder):
        def forward(self, view: View) -> Encoding:
            assert not torch.is_grad_enabled()
            return Encoding(view.data["x"].bfloat16())

    assert embed(Half(), source).dtype == np.float32


def test_a_view_moves_whole():
    hidden = torch.tensor([[True, False]])
    view = moved(View({"x": torch.ones(1, 2)}, mask=Mask(hidden), target=torch.ones(2), params={"p": torch.ones(1, 1)}), "meta")
    assert {part.device.type for part in (view.data["x"], view.mask.hidden, view.target, view.params["p"])} == {"meta"}


def test_devices_are_chosen_or_refused_in_one_sentence():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:99", "xpu"):
        with pytest.raises(UserError, match=f"there is no device '{name}' here"):
            choose_device(name)


def test_apples_gpus_are_not_chosen_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type in ("cpu", "cuda")


def test_finite_rows_pass_and_others_are_counted():
    rows = torch.ones(6, 2)
    require_finite(rows)
    rows[2, 0], rows[5, 1] = torch.inf, torch.nan
    for form in (rows, rows.numpy()):
        with pytest.raises(UserError, match="2 of 6 rows of the encoder"):
            require_finite(form, "rows of the encoder")
