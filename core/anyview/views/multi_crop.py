"""Many views of each sample: some that show it whole, some that show a part; and masks on the whole ones, with clean twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.maker import Gives, Transform, ViewMaker
from anyview.views.pair import transformed
from anyview.views.view import Mask, View, ViewSet

Hide = Callable[[Draws, int], Tensor]
"""Which of so many tokens are hidden: bool (rows, tokens), from the step's draws."""


class MultiCrop(ViewMaker):
    """Views of role "global", one by each wide transform, then `locals` views of role "local", each an own draw of the local transform.

    Data is a tensor (B, ...). wide: several transforms, or one, of which two draws are taken. Views keep the batch's index and groups, and
    the parameters that the transforms record. Raises UserError without a wide transform or for a negative number of locals.

    >>> from anyview.views.crop import Crop
    >>> views = MultiCrop(Crop(0.8), Crop(0.2), locals=3)(Batch(torch.zeros(4, 10), 4), Draws.seeded(0, total=4)).views
    >>> [(view.role, view.data.shape[1]) for view in views]
    [('global', 8), ('global', 8), ('local', 2), ('local', 2), ('local', 2)]
    """

    gives = Gives(views=2, roles=("global", "local"))

    def __init__(self, wide: Transform | Sequence[Transform], local: Transform, locals: int = 6) -> None:
        self.wide = list(wide) if isinstance(wide, Sequence) else [wide, wide]
        if not self.wide or locals < 0:
            raise UserError(f"views need a wide transform and 0 or more local views; found {len(self.wide)} and {locals}")
        self.local, self.locals = local, locals
        self.gives = Gives(views=len(self.wide), roles=("global", "local") if locals else ("global",))

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        whole = [replace(transformed(batch, transform, draws), role="global") for transform in self.wide]
        parts = [replace(transformed(batch, self.local, draws), role="local") for _ in range(self.locals)]
        return ViewSet([*whole, *parts], labels=batch.labels)


class MaskedViews(ViewMaker):
    """Another maker's views, with tokens of the whole ones hidden; their untouched twins follow at the end, in order, as role "clean".

    maker: its views of role "global" (or "view", where there are none) are masked, local ones stay as they are. hide: which tokens, as
    `functools.partial(hide_tokens, rate=0.5)`. tokens: how many the encoder makes of such a view, where its data does not say: patches of
    an image, frames of a waveform. None: the second axis of the data, (B, N, ...), counts them, and hidden ones are zero in the view's
    data. probability: that a sample's view is masked at all (0.5 in iBOT). drop, visible: see `Mask`.

    Raises ValueError where a view is masked already, or `hide` returns another shape.

    >>> from functools import partial
    >>> from anyview.views.mask import hide_tokens
    >>> from anyview.views.noise import NoisePair
    >>> maker = MaskedViews(NoisePair(), partial(hide_tokens, rate=0.5))
    >>> views = maker(Batch(torch.ones(3, 4, 2), 3), Draws.seeded(0, total=3)).views
    >>> [(view.role, None if view.mask is None else view.mask.hidden.sum(1).tolist()) for view in views]
    [('view', [2, 2, 2]), ('view', [2, 2, 2]), ('clean', None), ('clean', None)]
    """

    def __init__(
        self,
        maker: ViewMaker,
        hide: Hide,
        *,
        tokens: int | None = None,
        probability: float = 1.0,
        drop: bool = False,
        visible: int | None = None,
    ) -> None:
        if not 0 <= probability <= 1:
            raise UserError(f"a probability lies between 0 and 1, and {probability:g} was given")
        self.maker, self.hide, self.tokens, self.probability, self.drop, self.visible = maker, hide, tokens, probability, drop, visible
        self.gives = replace(maker.gives, roles=(*maker.gives.roles, "clean"), masks=True)

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        views = self.maker(batch, draws)
        clean = views.seen_whole
        masked = {id(view): self._masked(view, draws) for view in clean}
        shown = [masked.get(id(view), view) for view in views.views]
        return replace(views, views=[*shown, *(replace(view, role="clean") for view in clean)])

    def _masked(self, view: View, draws: Draws) -> View:
        if view.mask is not None:
            raise ValueError(f"the views of {type(self.maker).__name__} are masked already")
        data: Tensor = view.data
        tokens = data.shape[1] if self.tokens is None else self.tokens
        hidden = self.hide(draws, tokens)
        if hidden.shape != (draws.rows, tokens) or hidden.dtype != torch.bool:
            raise ValueError(f"a mask over {tokens} tokens is bool {(draws.rows, tokens)}, found {hidden.dtype} {tuple(hidden.shape)}")
        if self.probability < 1:
            hidden = hidden & draws.bernoulli(self.probability, 1)
        if self.tokens is None:
            data = data.masked_fill(hidden.view(*hidden.shape, *[1] * (data.ndim - 2)), 0)
        return replace(view, data=data, mask=Mask(hidden, drop=self.drop, visible=self.visible))
