"""Encoders: from a view to rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from anyview.encoders.positions import grid_coordinates
from anyview.errors import UserError
from anyview.learning_rates import ParameterGroup
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
    layers: Sequence[Tensor] | None = None


Masks = Literal["drop", "token"]


class Encoder(nn.Module):
    """Reads a view, returns an Encoding.

    dim: the width D of its rows. tokens: whether it returns tokens as well. masks: which of a view's masks it reads: "drop" leaves hidden
    tokens out where a mask drops them, "token" shows something learned in the place of what a mask hides. Recipes choose views by it.
    """

    dim: int
    tokens: bool = False
    masks: tuple[Masks, ...] = ()

    def forward(self, view: View) -> Encoding:
        """The view's encoding."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def parameter_groups(self) -> list[ParameterGroup]:
        """The parameters of its own whose learning rate follows a schedule other than the stage's; encoders within it have theirs."""
        return []


class Wrapped(Encoder):
    """Any torch module as an encoder: a backbone of timm or transformers, or one's own.

    module: called with view.data, or with its entries by name where that is a dictionary. It may return rows (B, D); a feature map
    (B, D, ...) of two or more axes, or with D last; tokens (B, N, D); or an output of transformers. Rows are the module's own (of
    transformers the `pooler_output`, where there is one), else the mean of its map or tokens. dim: D, by default what the module or its
    config says. tokens: keep the tokens or the cells of the map beside the rows; a model of timm is then asked for its features and for
    what its head makes of them before the classifier. prefix: how many tokens stand before the first place (class token, registers), by
    default what the module says; they are no part of tokens or mean. grid: the cells that tokens lie on, by default one axis; a map has
    its own.

    Masks are not shown to the module. Raises UserError when D cannot be found out or is another than the module's output has, when it
    returns something else, and when tokens are asked for and it returns rows alone.

    >>> Wrapped(nn.Linear(8, 4), dim=4).dim
    4
    >>> Wrapped(nn.Conv2d(3, 4, 2, stride=2), dim=4, tokens=True)(View(torch.randn(5, 3, 6, 4))).coordinates.shape
    torch.Size([5, 6, 2])
    """

    def __init__(
        self,
        module: nn.Module,
        dim: int | None = None,
        *,
        tokens: bool = False,
        prefix: int | None = None,
        grid: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.module, self.tokens, self.grid = module, tokens, grid
        self.dim = _width(module) if dim is None else dim
        self.prefix = getattr(module, "num_prefix_tokens", 0) if prefix is None else prefix

    def forward(self, view: View) -> Encoding:
        output, pooled = self._ask(view.data)
        encoding = Encoding(self._checked(output)) if output.ndim == 2 else self._of_tokens(output, view.data)
        if pooled is not None:
            encoding.rows = self._checked(pooled.flatten(1))
        return encoding

    def _ask(self, data: Any) -> tuple[Tensor, Tensor | None]:
        """What the module returns of the data, and the rows that it makes of that itself."""
        module: Any = self.module
        if self.tokens and hasattr(module, "forward_features"):
            output = module.forward_features(data)
            pooled = module.forward_head(output, pre_logits=True) if hasattr(module, "forward_head") else None
        else:
            output = module(**data) if isinstance(data, Mapping) else module(data)
            output, pooled = getattr(output, "last_hidden_state", output), getattr(output, "pooler_output", None)
        if not isinstance(output, Tensor) or output.ndim < 2:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UserError(f"{self._name} returned {found}; an encoder needs rows (B, D), tokens (B, N, D) or a map (B, D, ...)")
        if self.tokens and output.ndim == 2:
            raise UserError(f"tokens were asked for, and {self._name} returns rows alone; leave tokens out, or take off its pooling")
        return output, pooled

    def _of_tokens(self, output: Tensor, data: Any) -> Encoding:
        """The encoding of a map (B, D, ...) or of tokens (B, N, D)."""
        grid, valid = self.grid, None
        if output.ndim > 3:
            if output.shape[1] != self.dim and output.shape[-1] == self.dim:
                output = output.movedim(-1, 1)
            grid, output = tuple(output.shape[2:]), output.flatten(2).mT
        else:
            attended = data.get("attention_mask") if isinstance(data, Mapping) else None
            if attended is not None and attended.shape == output.shape[:2]:
                valid = attended[:, self.prefix :].bool()
            output = output[:, self.prefix :]
        rows = self._checked(_mean(output, valid))
        return Encoding(rows, output, valid, self._coordinates(output, grid)) if self.tokens else Encoding(rows)

    def _coordinates(self, tokens: Tensor, grid: tuple[int, ...] | None) -> Tensor:
        cells = grid_coordinates(grid or (tokens.shape[1],), like=tokens)
        if len(cells) != tokens.shape[1]:
            raise UserError(f"{self._name} returns {tokens.shape[1]} tokens, and the grid {grid} has {len(cells)} cells; make them agree")
        return cells.expand(len(tokens), -1, -1)

    def _checked(self, rows: Tensor) -> Tensor:
        if rows.shape[1] != self.dim:
            raise UserError(f"{self._name} returns a width of {rows.shape[1]}, and dim is {self.dim}; pass dim={rows.shape[1]}")
        return rows

    @property
    def _name(self) -> str:
        return type(self.module).__name__


def _width(module: nn.Module) -> int:
    """The width of a module's output, as transformers' configs (the last of several) and timm's models say it."""
    config = getattr(module, "config", None)
    sizes = getattr(config, "hidden_sizes", None) or [getattr(config, "hidden_size", None)]
    width = sizes[-1] or getattr(module, "num_features", None)
    if not isinstance(width, int):
        name = type(module).__name__
        raise UserError(f"{name} does not say how wide its output is (config.hidden_size or num_features); pass dim=...")
    return width


def _mean(tokens: Tensor, valid: Tensor | None) -> Tensor:
    """The mean token of each sample, (B, D), over those that are valid."""
    if valid is None:
        return tokens.mean(1)
    weights = valid[..., None].to(tokens.dtype)
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1.0)


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
        self.masks = tuple(mask for mask in ("drop", "token") if all(mask in encoder.masks for encoder in encoders.values()))

    def forward(self, view: View) -> Encoding:
        if view.stream not in self.encoders:
            raise ValueError(f"a view of stream {view.stream!r} reached encoders for {sorted(self.encoders)}")
        encoding: Encoding = self.encoders[view.stream](view)
        return encoding
