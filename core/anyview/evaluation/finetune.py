"""Fine-tuning: every weight of the encoder is trained with a linear head on the labels of the training part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anyview.data.splits import Split
from anyview.encoders.encoder import Encoder
from anyview.errors import UserError
from anyview.evaluation.embedding import moved
from anyview.evaluation.layer_decay import depths
from anyview.evaluation.limits import Limits, numbers
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData, measure
from anyview.evaluation.samples import CleanSamples, Shown
from anyview.schedules import Cosine
from anyview.views.draws import derive_seed

WARMUP = 0.1
"""Share of the steps over which the learning rate rises."""


@dataclass(slots=True)
class Best:
    """The state of the network at its best validation score so far, and how it came to it."""

    score: float = -1.0
    lr: float = 0.0
    epoch: int = 0
    state: dict[str, Tensor] | None = None


@protocol(
    headline="accuracy",
    several="micro_f1",
    facts=("best_lr", "best_epoch"),
    needs="encoder",
    limits={
        "epochs": Limits(at_least=1),
        "batch_size": Limits(at_least=2),
        "weight_decay": Limits(at_least=0),
        "layer_decay": Limits(above=0, at_most=1),
    },
)
def finetune(
    data: ProtocolData,
    seed: int,
    *,
    lr: str = "0.0001,0.0003,0.001",
    epochs: int = 50,
    batch_size: int = 256,
    weight_decay: float = 0.05,
    layer_decay: float = 1.0,
) -> Scores:
    """Test score of encoder and linear head after training all weights, at the learning rate and epoch with the best validation score.

    AdamW; linear warm-up over a tenth of the steps, then half a cosine to 0; no augmentation. lr: learning rates to choose from, with
    commas. epochs: passes over the training part. weight_decay: decoupled, none on vectors (norms, biases). layer_decay: the learning rate
    of a block is that of the next times this, .65 to .75 for vision transformers; 1 = one rate for all. seed: of head, order and
    dropout. Where there is no validation part, a fifth of the training part, drawn by class or in whole groups, takes its place; where
    that is nothing, the training part itself.
    The control is the same architecture from its random initialisation, trained alike; raw features have no weights and no such score.
    """
    split = _with_validation(data.with_validation(seed).split)
    samples = CleanSamples(data.source)
    best = Best()
    for rate in numbers("finetune", "lr", lr, Limits(above=0)):
        tuning = Tuning(data, split, samples, seed)
        tuning.run(rate, epochs, batch_size, weight_decay, layer_decay, best)
    if best.state is None:
        raise UserError("the protocol finetune found no learning rate at which the loss stayed finite; add a smaller one to --finetune.lr")
    tuning.network.load_state_dict(best.state)
    predicted = tuning.predict(split.test.numpy(), batch_size)
    return {data.measure: data.score(predicted), "best_lr": best.lr, "best_epoch": float(best.epoch)}


class Tuning:
    """One training run from the encoder's weights and a head that `seed` decides."""

    def __init__(self, data: ProtocolData, split: Split, samples: CleanSamples, seed: int) -> None:
        origin = data.asked_origin
        if origin.encoder is None:
            raise UserError("the protocol finetune trains an encoder, and raw features have none")
        self.data, self.split, self.samples, self.seed, self.device = data, split, samples, seed, origin.device
        with seeded(derive_seed(seed, "finetune", "head"), self.device):
            self.network = Network(origin.encoder(), data.classes).to(self.device).requires_grad_(True)

    def run(self, lr: float, epochs: int, batch_size: int, weight_decay: float, layer_decay: float, best: Best) -> None:
        """Train, and note in `best` the epochs that are better than what it holds; ends early where the loss is no longer finite."""
        train, validation = self.split.train.numpy(), self.split.validation.numpy()
        optimizer = torch.optim.AdamW(parameter_groups(self.network, lr, weight_decay, layer_decay))
        random = np.random.default_rng(derive_seed(self.seed, "order"))
        steps = epochs * self.samples.steps(train, batch_size)
        schedule, step = Cosine(warmup=max(1, round(WARMUP * steps))), 0
        with seeded(derive_seed(self.seed, "finetune", "dropout"), self.device):
            for epoch in range(1, epochs + 1):
                self.network.train()
                for shown in self.samples.batches(train, batch_size, random):
                    step += 1
                    if not self._step(optimizer, shown, schedule(step, steps + 1)):
                        return
                score = measure(self.predict(validation, batch_size), self.data.labels[validation])
                if score > best.score or (score == best.score and lr == best.lr):
                    best.score, best.lr, best.epoch = score, lr, epoch
                    best.state = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    @torch.no_grad()
    def predict(self, samples: np.ndarray, batch_size: int) -> np.ndarray:
        """Classes (n,), or zeros and ones (n, L), of samples (n,), in their order."""
        self.network.eval()
        shape = (len(self.data.labels), self.data.classes) if self.data.several else (len(self.data.labels),)
        predicted = torch.zeros(shape, dtype=torch.long)
        for shown in self.samples.batches(samples, batch_size):
            logits = self._logits(shown)
            predicted[shown.samples] = ((logits >= 0).long() if self.data.several else logits.argmax(1)).cpu()
        return predicted.numpy()[samples]

    def _step(self, optimizer: torch.optim.Optimizer, shown: Shown, factor: float) -> bool:
        """One step; False, without a step, where the loss is not finite."""
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        loss = self._loss(self._logits(shown), torch.from_numpy(self.data.labels)[shown.samples].to(self.device))
        if not bool(loss.isfinite()):
            return False
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return True

    def _logits(self, shown: Shown) -> Tensor:
        return self.network(moved(shown.view, self.device))[shown.positions.to(self.device)]

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.data.several:
            return nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits))
        return nn.functional.cross_entropy(logits, labels)


class Network(nn.Module):
    """An encoder and a linear head on its rows: a view to logits (M, C)."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, classes)

    def forward(self, view: Any) -> Tensor:
        return self.head(self.encoder(view).rows.float())


def parameter_groups(network: Network, lr: float, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Groups for the optimiser: one per depth and kind, without weight decay for vectors, slower the more blocks follow."""
    above = {} if layer_decay == 1 else {f"encoder.{name}": depth for name, depth in depths(network.encoder).items()}
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        groups.setdefault((above.get(name, 0), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": members, "lr": rate, "initial_lr": rate, "weight_decay": weight_decay if matrices else 0.0}
        for (depth, matrices), members in groups.items()
        for rate in (lr * layer_decay**depth,)
    ]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators at a seed for the length of a block, and then as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _with_validation(split: Split) -> Split:
    """The split; where there is nothing to choose on, the training part is that as well."""
    return split if len(split.validation) else Split(split.train, split.train, split.test, name=split.name)
