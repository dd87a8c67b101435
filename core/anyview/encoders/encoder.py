"""Encoders: from a view to rows."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from anyview.views.view import View


@dataclass(slots=True)
class Encoding:
    """What an encoder returns.

    rows: (M, D), one row per thing that is compared (image, node, clip, user, window).
    tokens: (B, N, D), with valid: (B, N) bool where lengths differ; only the kept ones where the view's mask drops the hidden.
    coordinates: (B, N, C), the place of each token's centre in its view, 0 to 1 along each of C axes; with every encoding that has tokens.
    layers: outputs of the inner layers, each shaped like rows or tokens.

    An encoder that has more to say (feature map, attention, capsule activations and poses) returns a subclass with those fields.
    """

    rows: Tensor
    tokens: Tensor | None = None
    valid: Tensor | None = None
    coordinates: Tensor | None = None
    layers: list[Tensor] | None = None


class Encoder(nn.Module):
    """Reads a view, returns an Encoding; `dim` is the width D of its rows, `tokens` says whether it returns tokens as well."""

    dim: int
    tokens: bool = False

    def forward(self, view: View) -> Encoding:
        """The view's encoding."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")


class Wrapped(Encoder):
    """Any module that maps view.data to rows (M, D), as an encoder.

    >>> Wrapped(nn.Linear(8, 4), dim=4).dim
    4
    """

    def __init__(self, module: nn.Module, dim: int) -> None:
        super().__init__()
        self.module, self.dim = module, dim

    def forward(self, view: View) -> Encoding:
        return Encoding(self.module(view.data))


class Streams(Encoder):
    """One encoder per stream; a view is read by the encoder that its `stream` names.

    encoders: all of one width. Raises ValueError when the widths differ.
    """

    def __init__(self, encoders: dict[str, Encoder]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        widths = {name: encoder.dim for name, encoder in encoders.items()}
        if len(set(widths.values())) != 1:
            raise ValueError(f"encoders of one objective must have one width, found {widths}; give each the same dim")
        self.dim = next(iter(widths.values()))
        self.tokens = all(encoder.tokens for encoder in encoders.values())

    def forward(self, view: View) -> Encoding:
        if view.stream not in self.encoders:
            raise ValueError(f"a view of stream {view.stream!r} reached encoders for {sorted(self.encoders)}")
        encoding: Encoding = self.encoders[view.stream](view)
        return encoding
