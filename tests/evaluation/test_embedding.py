"""Embedding: evaluation mode, order, and an encoder that comes back as it was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from anyview.data.source import Batch, Epoch, Source
from anyview.encoders.encoder import Encoder, Encoding, Wrapped
from anyview.errors import UserError
from anyview.evaluation.embedding import embed, fresh_rows, require_finite
from anyview.views.view import View


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


class Read(nn.Module):
    def forward(self, data: dict[str, torch.Tensor]) -> torch.Tensor:
        return data["x"]


def build() -> Encoder:
    return Wrapped(nn.Sequential(Read(), nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)), dim=8)


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
    encoder.module[2].eval()
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


def test_fresh_rows_follow_the_seed_and_leave_the_global_generator(source):
    built = []
    make = fresh_rows(lambda: built.append(0) or build(), source)
    state = torch.get_rng_state()
    first, other = make(0), make(1)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first, fresh_rows(build, source)(0))
    assert not np.array_equal(first, other)
    make(0)
    assert len(built) == 2


def test_finite_rows_pass_and_others_are_counted():
    rows = torch.ones(6, 2)
    require_finite(rows)
    rows[2, 0], rows[5, 1] = torch.inf, torch.nan
    for form in (rows, rows.numpy()):
        with pytest.raises(UserError, match="2 of 6 rows of the encoder"):
            require_finite(form, "rows of the encoder")
