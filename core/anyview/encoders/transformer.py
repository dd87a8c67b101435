"""Transformers over tokens: blocks that decoders and predictors share, and encoders that drop hidden tokens or show a token for them.

Vaswani et al. Attention Is All You Need. 2017, arXiv 1706.03762; with the norm before each part: Xiong et al. 2020, arXiv 2002.04745.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.positions import grid_coordinates, position_code
from anyview.errors import UserError
from anyview.views.view import Mask, View

Pool = Literal["mean", "class"]


@dataclass(slots=True)
class TokenEncoding(Encoding):
    """An encoding of a transformer, which has more to say about its tokens.

    branches: of each block what its feed-forward part adds, before the last residual, (B, N, D) each.
    places: (B, N', C), coordinates of all the view's tokens, also of those that were dropped.
    """

    branches: list[Tensor] | None = None
    places: Tensor | None = None


class Attention(nn.Module):
    """Self-attention of several heads over tokens (B, N, dim); raises UserError when the heads do not divide the width.

    allowed: (B, N, N) bool, which tokens (last axis) each token reads, at least one of them; by default all of them.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise UserError(f"{heads} attention heads cannot share a width of {dim}; choose a number of heads that divides it")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, allowed: Tensor | None = None) -> Tensor:
        samples, number, dim = tokens.shape
        query, key, value = self.qkv(tokens).view(samples, number, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, None if allowed is None else allowed[:, None])
        return self.out(mixed.transpose(1, 2).reshape(samples, number, dim))


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, on each token by itself; hidden: width between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden)
        self.out = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(gelu(self.inner(tokens)))


class Block(nn.Module):
    """Attention, then feed-forward, each on normed tokens and added to what it was given; ratio: the inner width, in shares of dim.

    drop: the share of what each part adds that is left out at random in training.
    Takes tokens (B, N, dim), and which of them each reads; returns them and what the feed-forward part added.
    """

    def __init__(self, dim: int, heads: int, ratio: float = 4.0, *, drop: float = 0.0) -> None:
        super().__init__()
        self.drop = drop
        self.attention_norm, self.attention = nn.LayerNorm(dim, eps=1e-6), Attention(dim, heads)
        self.feed_forward_norm, self.feed_forward = nn.LayerNorm(dim, eps=1e-6), FeedForward(dim, round(ratio * dim))

    def forward(self, tokens: Tensor, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        tokens = tokens + self._dropped(self.attention(self.attention_norm(tokens), allowed))
        branch = self._dropped(self.feed_forward(self.feed_forward_norm(tokens)))
        return tokens + branch, branch

    def _dropped(self, added: Tensor) -> Tensor:
        return dropout(added, self.drop) if self.drop and self.training else added


class Blocks(nn.Module):
    """`depth` blocks and a last norm, tokens (B, N, dim) to (B, N, dim); weights are Glorot's uniform ones, biases zero.

    drop: see Block. allowed: see Attention; `readable` makes it for sequences of several lengths.

    >>> Blocks(8, depth=2, heads=2)(torch.randn(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, dim: int, depth: int, heads: int, ratio: float = 4.0, *, drop: float = 0.0) -> None:
        super().__init__()
        if depth < 1:
            raise UserError(f"a transformer needs at least one block, and {depth} were asked for")
        self.blocks = nn.ModuleList(Block(dim, heads, ratio, drop=drop) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.apply(start_weights)

    def forward(self, tokens: Tensor, allowed: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            tokens, _ = block(tokens, allowed)
        return self.norm(tokens)

    def each(self, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each block in turn its output and what its feed-forward part added; the last norm is left to the caller."""
        for block in self.blocks:
            tokens, branch = block(tokens)
            yield tokens, branch


def readable(valid: Tensor, *, causal: bool) -> Tensor:
    """Which tokens each token may read, (B, N, N) bool: the valid ones, of those in `causal` order none that is later, and always itself.

    valid: (B, N) bool, False where a sequence is padded. That a padded token reads itself keeps its numbers finite.

    >>> readable(torch.tensor([[False, True, True]]), causal=True).int()[0]
    tensor([[1, 0, 0],
            [0, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    """
    places = torch.arange(valid.shape[1], device=valid.device)
    seen = valid[:, None, :] & (places[:, None] >= places) if causal else valid[:, None, :].expand(-1, valid.shape[1], -1)
    return seen | (places[:, None] == places)


def start_weights(module: nn.Module) -> None:
    """Give a linear layer Glorot's uniform weights and a zero bias, as transformers start; other modules stay as they are."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def new_token(dim: int) -> nn.Parameter:
    """A learned token (dim,) that stands for something that is not in the data."""
    return nn.Parameter(0.02 * torch.randn(dim))


class TokenTransformer(Encoder):
    """What transformer encoders share, whatever their tokens are made of; a subclass says how, in `embed`, by the layer `linear`.

    linear: the map to tokens, its outputs are the width of tokens and rows.
    Tokens get the codes of their places (`position_code`, of `turns` turns), so that a view may have any number of them. A mask (B, N)
    that drops leaves hidden tokens out, equally many in every sample; another shows a learned token in their place.
    pool: whether rows are the means of tokens, or a class token of their own. masked: learn that mask token; without it only masks that
    drop can be read. The encoding's `layers` are the blocks' outputs and its `branches` what their feed-forward parts added, at the
    tokens that it returns.

    Raises UserError when a mask is not over the view's tokens, when it drops all of them, and when there is no mask token to show.
    """

    tokens = True

    def __init__(
        self,
        linear: nn.Linear,
        *,
        depth: int,
        heads: int,
        ratio: float = 4.0,
        pool: Pool = "mean",
        masked: bool = False,
        turns: float = 16.0,
    ) -> None:
        super().__init__()
        self.dim, self.turns = linear.out_features, turns
        dim = self.dim
        self.linear = linear.apply(start_weights)  # before the blocks: layers are counted in the order in which they are registered
        self.blocks = Blocks(dim, depth, heads, ratio)
        self.class_token = new_token(dim) if pool == "class" else None
        self.mask_token = new_token(dim) if masked else None
        self.masks = ("drop", "token") if masked else ("drop",)

    def embed(self, data: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Tokens (B, N, dim) without their places, and the grid that they lie on, N cells in all."""
        raise NotImplementedError(f"{type(self).__name__} must define embed")

    def forward(self, view: View) -> Encoding:
        tokens, grid = self.embed(view.data)
        cells = grid_coordinates(grid, like=tokens)
        tokens = self._shown(tokens, view.mask) + position_code(cells, self.dim, self.turns).to(tokens.dtype)
        places = coordinates = cells.expand(len(tokens), -1, -1)
        if view.mask is not None and view.mask.drop:
            kept = _kept(view.mask)
            tokens, coordinates = tokens.take_along_dim(kept, 1), places.take_along_dim(kept, 1)
        return self._encoded(tokens, coordinates, places)

    def _shown(self, tokens: Tensor, mask: Mask | None) -> Tensor:
        """The tokens with the mask token at the places that show one."""
        if mask is not None and mask.hidden.shape != tokens.shape[:2]:
            found = f"the view's mask is {tuple(mask.hidden.shape)}, and the encoder makes {tuple(tokens.shape[:2])} tokens of it"
            raise UserError(f"{found}; give the view maker the encoder's grid")
        if self.mask_token is None:
            if mask is not None and not mask.drop:
                raise UserError(f"a mask that shows a token reached a {type(self).__name__} that has none; build it with masked=True")
            return tokens
        token = self.mask_token.to(tokens.dtype)
        if mask is None or mask.drop:
            return tokens + 0.0 * token  # it takes part in every forward, because several ranks wait for its gradient
        return torch.where(mask.replaced[..., None], token, tokens)

    def _encoded(self, tokens: Tensor, coordinates: Tensor, places: Tensor) -> TokenEncoding:
        first = 0 if self.class_token is None else 1
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        outputs, branches = zip(*self.blocks.each(tokens), strict=True)
        last = self.blocks.norm(outputs[-1])
        return TokenEncoding(
            last.mean(1) if self.class_token is None else last[:, 0],
            last[:, first:],
            coordinates=coordinates,
            layers=[output[:, first:] for output in outputs],
            branches=[branch[:, first:] for branch in branches],
            places=places,
        )


class SequenceTransformer(TokenTransformer):
    """A transformer on sequences of feature rows, data (B, N, features): each position is a token, N may differ from view to view.

    dim: width of tokens and rows. depth, heads: of the blocks. pool, masked, turns: see TokenTransformer; sequences of several hundred
    tokens are told apart better with more turns.

    >>> encoding = SequenceTransformer(5, dim=8, depth=1, heads=2)(View(torch.randn(3, 7, 5)))
    >>> encoding.rows.shape, encoding.tokens.shape, encoding.coordinates[0, :2, 0]
    (torch.Size([3, 8]), torch.Size([3, 7, 8]), tensor([0.0714, 0.2143]))
    """

    def __init__(
        self,
        features: int,
        *,
        dim: int = 256,
        depth: int = 4,
        heads: int = 4,
        ratio: float = 4.0,
        pool: Pool = "mean",
        masked: bool = False,
        turns: float = 16.0,
    ) -> None:
        super().__init__(nn.Linear(features, dim), depth=depth, heads=heads, ratio=ratio, pool=pool, masked=masked, turns=turns)
        self.features = features

    def embed(self, data: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        if data.ndim != 3 or data.shape[2] != self.features:
            raise UserError(f"a SequenceTransformer reads sequences (B, N, {self.features}), and the view's data is {tuple(data.shape)}")
        return self.linear(data), (data.shape[1],)


def _kept(mask: Mask) -> Tensor:
    kept = mask.kept
    if kept.shape[1] == 0:
        raise UserError("a mask hides every token of its view, and the encoder is shown none; hide a smaller share")
    return kept[..., None]
