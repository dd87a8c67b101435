"""CML: a user's row of the target told from each other behaviour's, with weights that a network learns by what they do to the target.

Wei, Huang, Xia, Xu, Zhao, Yin. Contrastive Meta Learning with Behavior Multiplicity for Recommendation. WSDM 2022, arXiv 2202.08523.

One table of embeddings is spread over a graph for each behaviour, and what comes of them is averaged after every layer. Each behaviour is
ranked by the fused rows, and users have to be found by their rows of the target in those of other behaviours. How much a user's loss counts
says a network that reads the loss and the rows, so that a step on the losses lowers BPR of the target on a further batch of users who did
everything: the meta loss.

The authors take three steps a batch: a clone's on the losses, the network's on the clone's meta loss, the model's with the new weights.
Here all is one step. The clone is a plain gradient step of the encoder's weights, and the gradient that the meta loss has to the network
through it is exact: autograd goes back through the step's own gradient, second derivatives and all. Of the weighted losses the encoder has
a gradient and the network none, of the meta loss the network and the encoder none, and Adam keeps each weight's state to itself; so model
and network learn as by optimisers of their own, and weights are those of before the step, not of after it. Beside that, the meta loss is
BPR of the target alone; learning rates are constant where the authors' go up and down; activations are leaky where theirs are sigmoids,
which make every number positive; contrast is InfoNCE of cosines among all users of a batch, where public code divides products by the
width and has users outside a tenth of the batch as negatives; and the network's numbers are normalised over all behaviours together, or
none could count more than another.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import layer_norm

from anyview.errors import UserError
from anyview.learning_rates import ParameterGroup
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.schedules import Constant
from anyview_recommenders.behaviour_views import BehaviourBatch, BehaviourTriples
from anyview_recommenders.beside import behaviours_of
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.fused_convolution import Counted, FusedConvolution, fused_losses
from anyview_recommenders.losses import bpr_loss
from anyview_recommenders.training import trained


class WeightNetwork(nn.Module):
    """How much each of P losses counts, by what it is and whose: two numbers in (0, 1), the second of rows that the loss has scaled.

    dim: D. losses: (P,). own, fused: (P, D), the user's row of the behaviour and the fused one. None of them gets a gradient. What the two
    are sigmoids of is normalised over all P, so half of the weights lie on either side of a learned middle.

    >>> deep, wide = WeightNetwork(4)(torch.rand(6), torch.randn(6, 4), torch.randn(6, 4))
    >>> deep.shape, bool(((deep > 0) & (deep < 1)).all())
    (torch.Size([6]), True)
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.deep = nn.Sequential(nn.Linear(3 * dim, dim), nn.PReLU(), nn.Linear(dim, 1, bias=False))
        self.wide = nn.Sequential(nn.Linear(2 * dim, 1), nn.PReLU())
        self.scale, self.shift = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(2))

    def forward(self, losses: Tensor, own: Tensor, fused: Tensor) -> tuple[Tensor, Tensor]:
        losses, rows = full(losses.detach())[:, None], full(torch.cat([own, fused], 1).detach())
        deep = self.deep(torch.cat([losses.expand(-1, own.shape[1]), rows], 1))  # as wide as a row, or it would be one number of many
        numbers = torch.cat([deep, self.wide(losses * rows)], 1).T
        found = layer_norm(numbers, numbers.shape[1:]) * self.scale[:, None] + self.shift[:, None]
        first, second = found.sigmoid()
        return first, second


class CML(Objective):
    """BPR of every behaviour and contrast of the target's users with those of each other one, both weighted by what the meta loss teaches.

    dim: width of the encoder's rows. behaviours: K, how many; with one there is nothing to weigh, and it is BPR. weight: of the contrast, a
    sum over behaviours of means over users. temperature: what cosines are divided by. auxiliary: weight of BPR of each behaviour beside
    the target. pace: length of the clone's step, in gradients. rate: of the networks, times the learning rate of the encoder. l2: weight of
    half the squared lengths of the batch's embeddings. Raises UserError for a pace that is not above 0.

    BPR of a user and behaviour has a weight in (0, 2), contrast one in (0, 1).
    """

    needs = Needs(views=0, roles=("behaviours",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        *,
        behaviours: int = 3,
        weight: float = 0.1,
        temperature: float = 0.5,
        auxiliary: float = 1.0,
        pace: float = 1.0,
        rate: float = 0.3,
        l2: float = 1e-4,
    ) -> None:
        super().__init__()
        if pace <= 0:
            raise UserError(f"the weights of losses are learned from a step of the model, and its pace is {pace:g}; give one above 0")
        self.weight, self.temperature, self.auxiliary, self.pace, self.rate, self.l2 = weight, temperature, auxiliary, pace, rate, l2
        if behaviours > 1:
            self.needs = replace(self.needs, roles=("behaviours", "meta"))
        self.networks = nn.ModuleList([WeightNetwork(dim), WeightNetwork(dim)] if behaviours > 1 else [])

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.networks.parameters(), Constant(self.rate))] if len(self.networks) else []

    def forward(self, step: Step) -> Losses:
        of_batch = fused_losses(step, BehaviourBatch.of(step), self.weight, self.temperature, self.auxiliary)
        length = self.l2 * of_batch.length
        if len(self.networks):
            return self._weighed(step, of_batch.ranking, of_batch.contrast, length)
        return Losses(bpr=of_batch.ranking.total(), l2=length)

    def _weighed(self, step: Step, ranking: Counted, contrast: Counted, length: Tensor) -> Losses:
        """The terms that the encoder learns by, at fixed weights, and the one that the networks do."""
        numbers = [torch.stack(network(*of[:3])) for network, of in zip(self.networks, (ranking, contrast), strict=True)]
        of_ranking, of_contrast = numbers[0].sum(0), numbers[1].mean(0)
        meta = self._meta(step, ranking.total(of_ranking) + contrast.total(of_contrast) + length)
        terms = {"bpr": ranking.total(of_ranking.detach()), "contrast": contrast.total(of_contrast.detach())}
        return Losses({**terms, "l2": length, "meta": meta})

    def _meta(self, step: Step, loss: Tensor) -> Tensor:
        """BPR of the meta view after a gradient step on a loss, with its exact gradient to the networks and none to the encoder.

        Every rank has the whole loss, so none has to wait for others within it.
        """
        weights = {name: weight for name, weight in step.encoder.named_parameters() if weight.requires_grad}
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        moved = {name: weight.detach() - self.pace * slope for (name, weight), slope in zip(weights.items(), slopes, strict=True)}
        found = bpr_loss(*functional_call(step.encoder, moved, (step.set.role("meta")[0],)).rows.chunk(3))
        own = list(self.networks.parameters())
        to_own = torch.autograd.grad(found, own)
        zeros = [((weight - weight.detach()) * slope).sum() for weight, slope in zip(own, to_own, strict=True)]  # that have its gradient
        return found.detach() + torch.stack(zeros).sum()


PRESETS: Presets = {
    "generated-behaviours": {"lr": 5e-3, "l2": 1e-3, "auxiliary": 0.1, "epochs": 100},
    "retail_rocket": {
        "lr": 5e-3,
        "l2": 1e-3,
        "layers": 2,
        "slope": 1.0,
        "map_rate": 3e-3,
        "weight": 1e-2,
        "auxiliary": 0.1,
        "epochs": 100,
    },
    "grid": {"data": "generated-behaviours", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "layers": Integers(1, 3),
    "slope": Uniform(0.5, 1.0),
    "map_rate": LogUniform(1e-3, 1e-1),
    "weight": LogUniform(1e-3, 0.5),
    "temperature": LogUniform(0.1, 1.0),
    "auxiliary": LogUniform(1e-2, 1.0),
}


@recipe(presets=PRESETS, views=BehaviourTriples, ranges=RANGES)
def cml(
    data: str = "retail_rocket",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    deviation: float = 0.1,
    slope: float = 0.5,
    map_rate: float = 0.01,
    weight: float = 0.1,
    temperature: float = 0.5,
    auxiliary: float = 1.0,
    meta: int = 128,
    pace: float = 1.0,
    rate: float = 0.3,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """CML: the target told from other behaviours, with weights that are learned (Wei et al., 2022, arXiv 2202.08523).

    Args:
        data: a data set's name, or a file or folder of interactions with behaviours
        reading: how they are read, filtered and split; see the options of open_interactions, of which target is the last behaviour
        dim: width of the rows
        layers: graph convolutions
        deviation: of the normal distribution that embeddings start from
        slope: of activations below 0
        map_rate: learning rate of the maps within and after convolutions, as a share of lr
        weight: of the contrast
        temperature: what cosines are divided by
        auxiliary: weight of ranking each behaviour beside the target
        meta: triples of users with all behaviours that tell in each step how losses are to be weighted
        pace: length of the step that they tell it of, in gradients
        rate: learning rate of the networks that weigh losses, times lr
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the target's training interactions, at most
        batch_size: interactions of the target per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"target": "last", **(reading or {})})
    behaviours = behaviours_of(source)
    network = FusedConvolution(behaviours, dim, layers=layers, deviation=deviation, slope=slope, map_rate=map_rate)
    weights = {"weight": weight, "temperature": temperature, "auxiliary": auxiliary, "pace": pace, "rate": rate, "l2": l2}
    views = BehaviourTriples(behaviours, meta=meta if len(behaviours) > 1 else 0)
    objective = CML(dim, behaviours=len(behaviours), **weights)
    return trained(source, network, [Task(views, objective)], epochs, batch_size, lr, look_every, patience)
