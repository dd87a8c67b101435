"""Encoders of sequences of items: a transformer whose last state says what comes next, by products with the items' own embeddings.

Kang, McAuley. Self-Attentive Sequential Recommendation. ICDM 2018, arXiv 1808.09781 (SASRec). Sun et al. BERT4Rec: Sequential
Recommendation with Bidirectional Encoder Representations from Transformer. CIKM 2019, arXiv 1904.06690.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, pad

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.positions import grid_coordinates
from anyview.encoders.transformer import Blocks, readable
from anyview.errors import UserError
from anyview.views.view import View
from anyview_recommenders.histories import PAD

SHORT = 8
"""Sequences of at most so many items are encoded together, then those of at most twice as many, and so on."""
DEVIATION = 0.02


class ItemTransformer(Encoder):
    """An embedding of each item, and a transformer over a sequence of them in which no item reads a later one.

    items: I. dim: D. length: L, the most recent items that are read. depth, heads: of the blocks. drop: the share of embeddings, and of
    what the blocks add, that is left out in training.

    It reads views whose data has "sequence", (B, N) int64 with zeros to the left and item i as i + 1, of which a mask (B, N) may show a
    learned token; places are counted from the right end, so zeros more or less change nothing. `tokens` are the states (B, N, D), zero
    where a sequence is padded, and rows the last ones. Of a view whose data has "items" (M,) rows are their embeddings. The score of an
    item after a sequence is the product of their rows.

    >>> encoder = ItemTransformer(9, dim=4, length=3)
    >>> encoder(View({"sequence": torch.tensor([[0, 2, 5]])})).tokens.shape, encoder(View({"items": torch.arange(9)})).rows.shape
    (torch.Size([1, 3, 4]), torch.Size([9, 4]))
    """

    tokens = True
    masks = ("token",)
    causal = True

    def __init__(self, items: int, dim: int = 64, *, length: int = 50, depth: int = 2, heads: int = 1, drop: float = 0.2) -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise UserError(f"a share that is left out lies in [0, 1), and drop is {drop:g}; try 0.2")
        self.items, self.dim, self.length, self.drop = items, dim, length, drop
        self.table = nn.Parameter(DEVIATION * torch.randn(items + 2, dim))  # the pad's row, the items', the mask's
        self.places = nn.Parameter(DEVIATION * torch.randn(length, dim))  # the last place is the sequence's end
        self.blocks = Blocks(dim, depth, heads, drop=drop)
        self.blocks.apply(_start_small)

    def forward(self, view: View) -> Encoding:
        if "items" in view.data:
            return Encoding(self.item_rows()[view.data["items"]])
        sequence = self.shown(view)
        return self.encoding(sequence, self.states(sequence))

    def shown(self, view: View) -> Tensor:
        """A view's sequence (B, N), with the mask token where its mask shows one."""
        sequence: Tensor = view.data["sequence"]
        if view.mask is None:
            return sequence
        return sequence.masked_fill(view.mask.replaced & (sequence != PAD), self.items + 1)

    def encoding(self, sequence: Tensor, states: Tensor) -> Encoding:
        """That of sequences (B, N) with their states (B, N, D)."""
        cells = grid_coordinates(states.shape[1:2], like=states).expand(len(states), -1, -1)
        return Encoding(states[:, -1], states, sequence != PAD, cells)

    def item_rows(self) -> Tensor:
        """(I, D) rows of all items, whose products with those of sequences are scores."""
        return self.table[1:-1]

    def around(self, rows: Tensor) -> Tensor:
        """(I + 2, D) rows of all items (I, D), between those of the pad and of the mask."""
        return torch.cat([self.table[:1], rows, self.table[-1:]])

    def states(self, sequence: Tensor, table: Tensor | None = None) -> Tensor:
        """(B, N, D) for a sequence (B, N); places before the last L are not read. table: (I + 2, D), of items, by default embeddings."""
        table = self.table if table is None else table
        groups, states = [], []
        for rows, width in _alike(sequence[:, -self.length :]):
            groups.append(rows)
            states.append(pad(self._encoded(sequence[rows, sequence.shape[1] - width :], table), (0, 0, sequence.shape[1] - width, 0)))
        return torch.cat(states)[torch.cat(groups).argsort()]

    def _encoded(self, sequence: Tensor, table: Tensor) -> Tensor:
        """The states of sequences that are read whole."""
        valid = sequence != PAD
        tokens = table[sequence] + self.places[-sequence.shape[1] :]
        tokens = dropout(tokens, self.drop, self.training)
        states: Tensor = self.blocks(tokens, readable(valid, causal=self.causal))
        return states * valid[..., None]


class ClozeTransformer(ItemTransformer):
    """The same, but every item reads all others, so that a hidden one is filled in from both sides.

    A view without a mask is a history whose next item is asked for: the mask token is put behind it, in the place of the oldest item where
    there are L. States go through an output layer of their own, and each item has a bias, so rows are one wider than `width`.

    >>> ClozeTransformer(9, 4, length=3)(View({"sequence": torch.tensor([[0, 2, 5]])})).rows.shape
    torch.Size([1, 5])
    """

    causal = False

    def __init__(self, items: int, width: int = 64, *, length: int = 50, depth: int = 2, heads: int = 2, drop: float = 0.2) -> None:
        super().__init__(items, width, length=length, depth=depth, heads=heads, drop=drop)
        self.dim = width + 1
        self.inner, self.norm = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-6)
        self.bias = nn.Parameter(torch.zeros(items))
        self.inner.apply(_start_small)

    def forward(self, view: View) -> Encoding:
        if "items" in view.data or view.mask is not None:
            return super().forward(view)
        sequence = view.data["sequence"]
        asked = torch.cat([sequence[:, 1:], torch.full_like(sequence[:, :1], self.items + 1)], 1)
        return super().forward(View({"sequence": asked}))

    def item_rows(self) -> Tensor:
        return torch.cat([super().item_rows(), self.bias[:, None]], 1)

    def states(self, sequence: Tensor, table: Tensor | None = None) -> Tensor:
        out = self.norm(gelu(self.inner(super().states(sequence, table))))
        ones = out.new_ones(*out.shape[:2], 1) + 0.0 * self.bias.sum()  # biases take part in every forward: ranks wait for their gradient
        return torch.cat([out, ones], 2) * (sequence != PAD)[..., None]


def _alike(sequence: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Rows (b,) of sequences (B, N) of like lengths, and the width that each such group needs.

    Most sequences are far shorter than the longest, and what is padded costs as much as what is not.
    """
    longest = sequence.shape[1]
    lengths = longest - (sequence != PAD).int().argmax(1)
    lengths = lengths.masked_fill((sequence == PAD).all(1), 0)
    below, width = -1, min(SHORT, longest)
    while below < longest:
        rows = ((lengths > below) & (lengths <= width)).nonzero().flatten()
        if len(rows):
            yield rows, width
        below, width = width, min(2 * width, longest)


def _start_small(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=DEVIATION)
        nn.init.zeros_(module.bias)
