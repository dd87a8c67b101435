from __future__ import annotations

import pytest
import torch

from anyview.encoders.mlp import MLP
from anyview.testing import check_encoder
from anyview.views.view import Mask, View


def test_mlp_keeps_the_contract() -> None:
    check_encoder(MLP(6, hidden=5, dim=4), View(torch.randn(8, 6)))
    check_encoder(MLP(6, hidden=5, dim=4, masked=True), View(torch.randn(8, 6), mask=Mask(torch.rand(8, 6) < 0.5)))


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_layers(layers: int) -> None:
    encoding = MLP(6, hidden=5, dim=4, layers=layers)(View(torch.randn(8, 2, 3)))
    assert encoding.rows.shape == (8, 4)
    assert [tuple(layer.shape) for layer in encoding.layers] == [(8, 5)] * (layers - 1)


def test_hidden_numbers_do_not_reach_the_rows() -> None:
    encoder = MLP(6, dim=4, masked=True).eval()
    x, mask = torch.randn(8, 6), Mask(torch.rand(8, 6) < 0.5)
    other = torch.where(mask.hidden, torch.randn(8, 6), x)
    assert torch.equal(encoder(View(x, mask=mask)).rows, encoder(View(other, mask=mask)).rows)
    assert not torch.equal(encoder(View(x)).rows, encoder(View(other)).rows)


def test_the_token_shows_where_the_mask_says_so_and_is_learned() -> None:
    encoder = MLP(3, dim=2, layers=1, masked=True)
    encoder.token.data = torch.tensor([1.0, 2.0, 3.0])
    mask = Mask(torch.tensor([[True, True, False]]), token=torch.tensor([[True, False, False]]))
    rows = encoder(View(torch.tensor([[7.0, 8.0, 9.0]]), mask=mask)).rows
    assert torch.equal(rows, encoder(View(torch.tensor([[1.0, 8.0, 9.0]]))).rows)
    rows.sum().backward()
    assert encoder.token.grad[0] != 0
    assert encoder.token.grad[1:].tolist() == [0, 0]


def test_a_mask_of_rows_hides_whole_rows() -> None:
    encoder = MLP(3, dim=2, masked=True).eval()
    rows = encoder(View(torch.randn(4, 3), mask=Mask(torch.tensor([True, False, True, False])))).rows
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[1], rows[3])


def test_a_masked_view_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="masked=True"):
        MLP(3, dim=2)(View(torch.randn(4, 3), mask=Mask(torch.ones(4, 3, dtype=torch.bool))))
