from __future__ import annotations

import pytest
import torch
from torch import nn

from anyview.encoders.encoder import Streams, Wrapped
from anyview.testing import check_encoder
from anyview.views.view import View


def streams() -> Streams:
    return Streams({"time": Wrapped(nn.Linear(5, 3), 3), "fourier": Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(8, 3)), 3)})


def test_wrapped_module_keeps_the_contract() -> None:
    check_encoder(Wrapped(nn.Linear(5, 3), 3), View(torch.randn(4, 5)))


def test_each_view_is_read_by_its_stream_s_encoder() -> None:
    both = streams()
    x = torch.randn(4, 2, 4)
    assert torch.equal(both(View(x, stream="fourier")).rows, both.encoders["fourier"](View(x)).rows)
    assert both(View(torch.randn(4, 5), stream="time")).rows.shape == (4, 3)


def test_unknown_stream_is_named() -> None:
    with pytest.raises(ValueError, match="'image' reached encoders for"):
        streams()(View(torch.randn(4, 5), stream="image"))


def test_widths_must_agree() -> None:
    with pytest.raises(ValueError, match="one width"):
        Streams({"a": Wrapped(nn.Linear(5, 3), 3), "b": Wrapped(nn.Linear(5, 4), 4)})
