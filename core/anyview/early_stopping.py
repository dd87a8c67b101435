"""Early stopping: the weights that scored best on what was held out for choosing, and the end of a stage that no longer improves.

Prechelt. Early Stopping, But When? Neural Networks: Tricks of the Trade, 1998.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from anyview.encoders.encoder import Encoder
from anyview.errors import UserError

Score = Callable[[Encoder], float]
"""An encoder, in evaluation mode and without gradient -> how good it is on data held out for choosing; higher is better.

Of several processes the first asks it. It must be a function or an object of a module, which new processes can import.
"""


class EarlyStopping(nn.Module):
    """Looks at a stage's embedder every few passes over the data; at the end of the stage the embedder takes the weights that scored best.

    score: see `Score`. name: what the score is called in metrics. every: passes between two looks; the stage's last step is one as well.
    patience: looks without a better score after which the stage ends; None trains all epochs. What it holds is saved in checkpoints.
    Raises UserError for fewer than one pass or look.

    >>> stopping = EarlyStopping(lambda encoder: 0.0, every=1, patience=2)
    >>> [stopping.judge(score, {}) for score in (0.1, 0.3, 0.2, 0.3)], stopping.over
    ([True, True, False, False], True)
    """

    def __init__(self, score: Score, *, name: str = "validation", every: int = 5, patience: int | None = 5) -> None:
        super().__init__()
        if every < 1 or (patience is not None and patience < 1):
            raise UserError(f"early stopping looks every 1 pass or more and waits 1 look or more; found every {every}, patience {patience}")
        self.score, self.name, self.every, self.patience = score, name, every, patience
        self.best, self.waited = -math.inf, 0
        self.weights: dict[str, Tensor] = {}

    @property
    def over(self) -> bool:
        """Whether the stage is to end."""
        return self.patience is not None and self.waited >= self.patience

    def due(self, passes: int, *, last: bool) -> bool:
        """Whether to look after so many passes; last: after the stage's last step."""
        return last or passes % self.every == 0

    def judge(self, score: float, weights: dict[str, Tensor]) -> bool:
        """Keep a copy of the weights if their score is the best so far, and say whether it is; NaN never is."""
        better = score > self.best
        if better:
            self.best, self.waited = score, 0
            self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        else:
            self.waited += 1
        return better

    def restore(self, encoder: nn.Module) -> None:
        """Give an encoder the best weights; it keeps its own where nothing was looked at, or every score was NaN."""
        if self.weights:
            encoder.load_state_dict(self.weights)

    def get_extra_state(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "weights": self.weights}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.best, self.waited, self.weights = state["best"], state["waited"], state["weights"]
