from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anyview.encoders.encoder import Streams, Wrapped
from anyview.encoders.positions import grid_coordinates
from anyview.errors import UserError
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


class Returns(nn.Module):
    """Gives back what its function makes of the input, through one weight."""

    def __init__(self, function: Callable[..., Any], **attributes: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.function = function
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        return self.function(*(x * self.weight for x in inputs), **named)


def output(last: Tensor, **more: Tensor | None) -> SimpleNamespace:
    """What a model of transformers returns."""
    return SimpleNamespace(last_hidden_state=last, **more)


class Timm(nn.Module):
    """A model of timm's shape: features with a class token in front, a norm and a pooling in its head."""

    num_features = 4
    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.last = nn.Linear(3, 4), nn.LayerNorm(4)

    def forward_features(self, x: Tensor) -> Tensor:
        patches = self.patches(x)
        return torch.cat([patches.amax(1, keepdim=True), patches], 1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        assert pre_logits
        return self.last(features[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x), pre_logits=True)


def test_a_map_is_averaged_and_its_cells_are_kept_if_asked() -> None:
    x = torch.randn(2, 3, 4, 5)
    rows = Wrapped(Returns(lambda x: x), 3)(View(x))
    assert rows.tokens is None
    torch.testing.assert_close(rows.rows, x.mean((2, 3)))
    encoding = Wrapped(Returns(lambda x: x), 3, tokens=True)(View(x))
    torch.testing.assert_close(encoding.rows, rows.rows)
    torch.testing.assert_close(encoding.tokens[:, 7], x[:, :, 1, 2])
    torch.testing.assert_close(encoding.coordinates[0, 7], torch.tensor([1.5 / 4, 2.5 / 5]))


def test_a_map_may_have_its_width_last_or_more_axes() -> None:
    x = torch.randn(2, 4, 5, 3)
    torch.testing.assert_close(Wrapped(Returns(lambda x: x), 3)(View(x)).rows, x.mean((1, 2)))
    volume = torch.randn(2, 3, 2, 2, 2)
    assert Wrapped(Returns(lambda x: x), 3, tokens=True)(View(volume)).coordinates.shape == (2, 8, 3)


def test_tokens_are_averaged_without_those_that_are_no_place() -> None:
    x = torch.randn(2, 7, 3)
    encoding = Wrapped(Returns(lambda x: x), 3, tokens=True, prefix=1, grid=(2, 3))(View(x))
    assert torch.equal(encoding.tokens, x[:, 1:])
    torch.testing.assert_close(encoding.rows, x[:, 1:].mean(1))
    assert torch.equal(encoding.coordinates[0], grid_coordinates((2, 3)))


def test_outputs_of_transformers_give_their_pooled_rows_else_the_mean() -> None:
    x, pooled = torch.randn(2, 5, 3), torch.randn(2, 3, 1, 1)
    config = SimpleNamespace(hidden_size=3)
    with_rows = Wrapped(Returns(lambda x: output(x, pooler_output=pooled), config=config))(View(x))
    assert torch.equal(with_rows.rows, pooled.flatten(1))
    for result in (lambda x: output(x, pooler_output=None), output):
        torch.testing.assert_close(Wrapped(Returns(result, config=config))(View(x)).rows, x.mean(1))


def test_a_dictionary_is_given_by_name_and_its_attention_mask_counts() -> None:
    states, attended = torch.randn(2, 4, 3), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    module = Returns(
        lambda input_ids, attention_mask: output(input_ids + 0 * attention_mask[..., None]), config=SimpleNamespace(hidden_size=3)
    )
    encoding = Wrapped(module, tokens=True)(View({"input_ids": states, "attention_mask": attended}))
    torch.testing.assert_close(encoding.rows, torch.stack([states[0, :2].mean(0), states[1].mean(0)]))
    assert torch.equal(encoding.valid, attended.bool())


def test_models_of_timm_give_their_head_s_rows_and_their_features_tokens() -> None:
    module = Timm()
    view = View(torch.randn(2, 6, 3))
    rows, both = Wrapped(module)(view), Wrapped(module, tokens=True)(view)
    assert torch.equal(rows.rows, both.rows)
    assert torch.equal(both.tokens, module.patches(view.data))
    check_encoder(Wrapped(Timm()), view)
    check_encoder(Wrapped(Timm(), tokens=True), view)


@pytest.mark.parametrize(
    ("attributes", "dim"),
    [
        ({"config": SimpleNamespace(hidden_size=7)}, 7),
        ({"config": SimpleNamespace(hidden_sizes=[2, 9])}, 9),
        ({"num_features": 5}, 5),
        ({"config": SimpleNamespace(hidden_size=7), "num_features": 5}, 7),
    ],
)
def test_the_width_is_what_the_module_says(attributes: dict[str, Any], dim: int) -> None:
    assert Wrapped(Returns(lambda x: x, **attributes)).dim == dim


@pytest.mark.parametrize(
    ("function", "options", "phrase"),
    [
        (lambda x: x, {}, "Returns does not say how wide its output is"),
        (lambda x: x, {"dim": 4}, "Returns returns a width of 3, and dim is 4; pass dim=3"),
        (lambda x: x[..., None, None], {"dim": 4}, "a width of 3, and dim is 4"),
        (lambda x: x[:, 0], {"dim": 4}, r"returned \(2,\)"),
        (lambda x: (x, x), {"dim": 3}, "returned tuple"),
        (lambda x: x, {"dim": 3, "tokens": True}, "returns rows alone"),
        (lambda x: x[:, None], {"dim": 3, "tokens": True, "grid": (2, 2)}, r"1 tokens, and the grid \(2, 2\) has 4 cells"),
    ],
)
def test_mistakes_are_told(function: Callable[..., Any], options: dict[str, Any], phrase: str) -> None:
    with pytest.raises(UserError, match=phrase):
        Wrapped(Returns(function), **options)(View(torch.randn(2, 3)))
