"""The smallest batch, views, encoder and stage that an objective can be tried on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from anyview.combiners.combiner import Combiner
from anyview.combiners.weighted_sum import WeightedSum
from anyview.data.source import Batch
from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.objectives.objective import Needs, Objective, ObjectiveSlot
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage, Task
from anyview.views.blocks import ContextTargets
from anyview.views.draws import Draws
from anyview.views.maker import ViewMaker
from anyview.views.mask import MaskTokens
from anyview.views.noise import NoisePair
from anyview.views.view import View

FEATURES = 12
TOKENS = 6
DIM = 8


class TinyTokens(Encoder):
    """Tokens (B, N, F) by one linear layer, each moved a little towards their mean; hidden ones are dropped, or show a token.

    Rows are means of tokens; `layers` are the tokens before and after that move.
    """

    tokens = True
    masks = ("drop", "token")

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.embed = nn.Linear(features, dim)
        self.token = nn.Parameter(torch.zeros(dim))

    def forward(self, view: View) -> Encoding:
        tokens = self.embed(view.data)
        places = ((torch.arange(tokens.shape[1]).to(tokens) + 0.5) / tokens.shape[1]).expand(len(tokens), -1)[..., None]
        if view.mask is not None and view.mask.drop:
            kept = view.mask.kept[..., None]
            tokens, places = tokens.take_along_dim(kept, 1), places.take_along_dim(kept, 1)
        elif view.mask is not None:
            tokens = torch.where(view.mask.replaced[..., None], self.token, tokens)
        tokens = tokens + places + 0.0 * self.token  # it takes part, so that it has a gradient
        mixed = tokens + 0.5 * tokens.mean(1, keepdim=True)
        return Encoding(mixed.mean(1), tokens=mixed, coordinates=places, layers=[tokens, mixed])


def tiny_batch(rows: int = 12, *, tokens: bool = False, seed: int = 0, constant: bool = False) -> Batch:
    """Rows around four Gaussian centres, (rows, 12), or sequences (rows, 6, 12); constant: all rows alike."""
    random = torch.Generator().manual_seed(seed)
    shape = (TOKENS, FEATURES) if tokens else (FEATURES,)
    labels = torch.arange(rows) % 4
    data = torch.randn(4, *shape, generator=random, dtype=torch.float64)[labels]
    data = data + 0.5 * torch.randn(rows, *shape, generator=random, dtype=torch.float64)
    data = data.to(torch.get_default_dtype())
    return Batch(data[:1].expand_as(data).clone() if constant else data, rows, index=torch.arange(rows), labels=labels)


def tiny_views(needs: Needs, std: float = 0.3) -> ViewMaker:
    """A view maker that gives what an objective needs; raises UserError when only the objective's own plugin can.

    std: of the noise that tells two views apart.
    """
    maker: ViewMaker = MaskTokens(0.5, drop=needs.drops) if needs.masks or needs.targets else NoisePair(std)
    if "context" in needs.roles:
        maker = ContextTargets()
    lacks = needs.missing(maker.gives)
    if lacks:
        raise UserError(f"no tiny view maker gives {', '.join(lacks)}; call the check with views of your own")
    return maker


def tiny_stage(
    make_objective: ObjectiveSlot,
    make_views: Callable[[], ViewMaker] | None = None,
    make_encoder: Callable[[], Encoder] | None = None,
    combiner: Combiner | None = None,
) -> Stage:
    """A stage of one task on tiny parts, the same weights in every call; parts that are not given are chosen by the objective's needs."""
    torch.manual_seed(0)
    objective: Objective = make_objective(DIM)
    needs = objective.needs
    views = make_views() if make_views is not None else tiny_views(needs)
    if make_encoder is not None:
        encoder = make_encoder()
    elif needs.tokens:
        encoder = TinyTokens(FEATURES, DIM)
    else:
        encoder = MLP(FEATURES, hidden=10, dim=DIM, layers=2, masked=needs.masks)
    return Stage([Task(views, objective)], encoder, epochs=1, optimizer=sgd, combiner=combiner or WeightedSum())


def tiny_pretrainer(stage: Stage, shown: StepInput, samples: int) -> Pretrainer:
    """The stage's module in train mode, prepared for `samples` samples like those of the batch `shown`, and started."""
    pretrainer = Pretrainer(stage).train()
    torch.manual_seed(1)
    pretrainer.prepare(shown, samples)
    pretrainer.start()
    return pretrainer


def sgd(parameters: object) -> torch.optim.Optimizer:
    """Plain momentum descent: unlike Adam's, its steps are no larger than differences in the gradient make them."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)  # type: ignore[arg-type]


def tiny_draws(step: int, total: int, own: slice | None = None) -> Draws:
    """The draws of a step for the rows `own` of a batch of `total`."""
    own = own or slice(0, total)
    return Draws.seeded(step + 1, total=total, start=own.start, rows=own.stop - own.start)
