"""Views with a part hidden: tokens of a sequence, columns of a table, whole rows."""

from __future__ import annotations

from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import Mask, View, ViewSet


def hide_tokens(draws: Draws, tokens: int, rate: float, *, shared: bool = False) -> Tensor:
    """Which tokens are hidden: bool (rows, tokens), equally many in every sample. shared: the same ones in every sample and on every rank.

    >>> hide_tokens(Draws.seeded(0, total=3), 8, 0.25).sum(1).tolist()
    [2, 2, 2]
    """
    count = round(_share(rate) * tokens)
    chance = draws.shared_uniform(tokens).expand(draws.rows, tokens) if shared else draws.uniform(tokens)
    return chance.argsort(dim=1).argsort(dim=1) < count


def hide_rows(draws: Draws, rate: float) -> Tensor:
    """Which rows are hidden: bool (rows,), an exact share of the global batch.

    >>> int(hide_rows(Draws.seeded(0, total=10), 0.3).sum())
    3
    """
    count = round(_share(rate) * draws.total)
    return draws.permutation(draws.total)[draws.start : draws.start + draws.rows] < count


class Masked(ViewMaker):
    """A view with a part hidden, whose target is the whole data (B, ...), and that data as a "clean" view for teachers.

    rate: share that is hidden, 0 to 1. Hidden places are zero in the view's data, so that an encoder that knows no masks sees nothing of
    them. drop: see `Mask`.
    """

    gives = Gives(roles=("view", "clean"), masks=True, targets=True)

    def __init__(self, rate: float = 0.5, *, drop: bool = False) -> None:
        self.rate, self.drop = _share(rate), drop

    def hide(self, data: Tensor, draws: Draws) -> Tensor:
        """Which places are hidden: bool, (B,) or (B, N)."""
        raise NotImplementedError(f"{type(self).__name__} must define hide")

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        data: Tensor = batch.data
        hidden = self.hide(data, draws)
        shown = data.masked_fill(hidden.view(*hidden.shape, *[1] * (data.ndim - hidden.ndim)), 0.0)
        view = View(shown, mask=Mask(hidden, drop=self.drop), target=data, index=batch.index, groups=batch.groups)
        clean = View(data, role="clean", index=batch.index, groups=batch.groups)
        return ViewSet([view, clean], labels=batch.labels)


class MaskTokens(Masked):
    """Hides positions of the axis after the first, others in every sample and equally many: patches, time steps, cells of a table's row.

    Data is (B, N, ...), the mask (B, N).

    >>> view = MaskTokens(0.5)(Batch(torch.ones(2, 4), 2), Draws.seeded(0, total=2)).views[0]
    >>> view.data.sum(1).tolist(), view.mask.hidden.sum(1).tolist(), view.target.sum(1).tolist()
    ([2.0, 2.0], [2, 2], [4.0, 4.0])
    """

    def hide(self, data: Tensor, draws: Draws) -> Tensor:
        return hide_tokens(draws, data.shape[1], self.rate)


class MaskColumns(Masked):
    """Hides whole columns of a table, the same ones in every row of the batch and on every rank; data is (B, F), the mask (B, F).

    >>> MaskColumns(0.5)(Batch(torch.ones(3, 4), 3), Draws.seeded(0, total=3)).views[0].data.sum(0).sort().values.tolist()
    [0.0, 0.0, 3.0, 3.0]
    """

    def hide(self, data: Tensor, draws: Draws) -> Tensor:
        return hide_tokens(draws, data.shape[1], self.rate, shared=True)


class MaskRows(Masked):
    """Hides whole rows, an exact share of the global batch; data is (B, ...), the mask (B,).

    >>> MaskRows(0.5)(Batch(torch.ones(4, 2), 4), Draws.seeded(0, total=4)).views[0].data.sum(1).sort().values.tolist()
    [0.0, 0.0, 2.0, 2.0]
    """

    def hide(self, data: Tensor, draws: Draws) -> Tensor:
        return hide_rows(draws, self.rate)


def _share(rate: float) -> float:
    if not 0.0 <= rate <= 1.0:
        raise UserError(f"a share must lie between 0 and 1, and {rate:g} was asked for; give one in that range")
    return rate
