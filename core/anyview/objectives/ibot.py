"""iBOT: DINO on whole samples, and on each hidden token what the teacher, who sees it, makes of it.

Zhou, Wei, Wang, Shen, Xie, Yuille, Kong. iBOT: Image BERT Pre-Training with Online Tokenizer. 2021, arXiv 2111.07832.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anyview.encoders.encoder import Encoding
from anyview.encoders.moving_average import MovingAverage
from anyview.errors import UserError
from anyview.objectives.dino import Centre, DinoHead, TeacherTemperature, dino_loss, teacher_monitors, teacher_targets
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.prototypes import cross_entropy, phase
from anyview.objectives.tokens import mean_of_all
from anyview.schedules import Cosine
from anyview.views.view import View


def hidden_token_loss(targets: Tensor, outputs: Tensor, hidden: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of the teacher's distributions with the student's: a mean over each sample's hidden tokens, then over samples.

    hidden: (B, N) bool, with T True. targets: (T, K) distributions of these tokens, sample by sample in order of position; no gradient.
    outputs: (T, K) of the student. A sample without hidden tokens adds 0 and counts in the mean, which is over the samples of all ranks.

    >>> hidden = torch.tensor([[True, True], [False, False]])
    >>> round(float(hidden_token_loss(torch.full((2, 10), 0.1), torch.zeros(2, 10), hidden) / torch.tensor(10.0).log()), 4)
    0.5
    """
    tokens = cross_entropy(targets, outputs, temperature)
    placed = tokens.new_zeros(hidden.shape).masked_scatter(hidden, tokens)
    return mean_of_all(placed.sum(1) / hidden.sum(1).clamp(min=1))


class IBOT(Objective):
    """Objective over masked views with clean twins, any local views, and a teacher; owns a head for rows and tokens, and its average.

    The student sees the masked views, the teacher their clean twins. As in DINO, each row is predicted from another view; hidden tokens
    are predicted from the same view. Where there is one view alone, its row is predicted from the masked view too. Rows and tokens have
    a centre each. Encoders must show a token in the place of hidden ones.

    dim: width of rows and tokens. hidden, width, prototypes: of the head. temperature: the student's. teacher_temperature,
    final_teacher_temperature: the teacher's, linear over the first warmup_epochs passes. frozen_epochs: passes in which the last layer
    stays as it was drawn. (Either takes half of the stage at most.) token_weight: of the tokens' term beside the rows'. centre_momentum:
    of the centres. momentum, final_momentum: the teacher's, along half a cosine. Monitors: as DINO's, of rows.
    """

    needs = Needs(roles=("clean",), masks=True, tokens=True, teacher=True)
    tags = ("distillation", "masked prediction")
    evaluated = "teacher"

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 2048,
        width: int = 256,
        prototypes: int = 8192,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        final_teacher_temperature: float = 0.07,
        warmup_epochs: float = 30.0,
        frozen_epochs: float = 1.0,
        token_weight: float = 1.0,
        centre_momentum: float = 0.9,
        momentum: float = 0.996,
        final_momentum: float = 1.0,
    ) -> None:
        super().__init__()
        self.momentum = Cosine(momentum, final_momentum)
        self.head = DinoHead(dim, hidden, width, prototypes)
        self.teacher_head = MovingAverage(self.head, self.momentum)
        self.row_centre, self.token_centre = Centre(prototypes, centre_momentum), Centre(prototypes, centre_momentum)
        self.temperature, self.frozen_epochs, self.token_weight = temperature, frozen_epochs, token_weight
        self.teacher_temperature = TeacherTemperature(teacher_temperature, final_teacher_temperature, warmup_epochs)
        self._means: dict[int, tuple[Tensor, Tensor]] = {}

    def forward(self, step: Step) -> Losses:
        clean = step.set.role("clean")
        if len(clean) != len(step.seen_whole):
            raise UserError(f"iBOT needs a clean twin of each masked view, and there are {len(clean)} of {len(step.seen_whole)} views")
        frozen, temperature = phase(step, self.frozen_epochs) < 1, self.teacher_temperature(step)
        teacher = [step.encode(view, teacher=True) for view in clean]
        rows = [self.teacher_head(encoding.rows) for encoding in teacher]
        targets = [teacher_targets(output, self.row_centre.value, temperature) for output in rows]
        outputs = [self.head(step.encode(view).rows, frozen) for view in step.crops]
        row_term = self._row_term(targets, outputs)
        tokens = [self._embed(encoding) for encoding in teacher]
        pairs = zip(step.seen_whole, tokens, strict=True)
        token_terms = [self._token_term(view, step.encode(view), seen, temperature, frozen) for view, seen in pairs]
        self._means[id(step)] = mean_of_all(torch.cat(rows)), self._mean_of_tokens(tokens, teacher)
        losses = Losses(rows=row_term, tokens=self.token_weight * torch.stack(token_terms).mean())
        losses.monitors = teacher_monitors(targets, row_term)
        return losses

    def _row_term(self, targets: list[Tensor], outputs: list[Tensor]) -> Tensor:
        if len(outputs) > 1:
            return dino_loss(targets, outputs, self.temperature)
        return mean_of_all(cross_entropy(targets[0], outputs[0], self.temperature))

    def _token_term(self, view: View, student: Encoding, embedded: Tensor, temperature: float, frozen: bool) -> Tensor:
        hidden = hidden_tokens(view, student)
        assert student.tokens is not None
        seen = self._teacher_last(embedded[hidden])
        targets = teacher_targets(seen, self.token_centre.value, temperature)
        return hidden_token_loss(targets, self.head(student.tokens[hidden], frozen), hidden, self.temperature)

    @torch.no_grad()
    def _embed(self, teacher: Encoding) -> Tensor:
        """The teacher's tokens (B, N, D) as its last layer is shown them, (B, N, width)."""
        assert isinstance(self.teacher_head.module, DinoHead)
        assert teacher.tokens is not None
        return self.teacher_head.module.embed(teacher.tokens)

    @torch.no_grad()
    def _teacher_last(self, embedded: Tensor) -> Tensor:
        assert isinstance(self.teacher_head.module, DinoHead)
        scores: Tensor = self.teacher_head.module.last(embedded)
        return scores

    @torch.no_grad()
    def _mean_of_tokens(self, embedded: list[Tensor], teacher: list[Encoding]) -> Tensor:
        """The teacher's mean output (K,) over all tokens, hidden or not: as the last layer is linear, its output for their mean."""
        real = [
            tokens.flatten(0, 1) if encoding.valid is None else tokens[encoding.valid]
            for tokens, encoding in zip(embedded, teacher, strict=True)
        ]
        return self._teacher_last(mean_of_all(torch.cat(real))[None])[0]

    def after_step(self, step: Step) -> None:
        if means := self._means.pop(id(step), None):
            for centre, mean in zip((self.row_centre, self.token_centre), means, strict=True):
                centre.follow(mean)

    def collapse_line(self, rows: int) -> float:
        """Both terms with every output uniform, where all samples have hidden tokens."""
        return (1 + self.token_weight) * math.log(self.head.last.count)


def hidden_tokens(view: View, encoding: Encoding) -> Tensor:
    """Which tokens of a masked view are hidden and real, bool (B, N); raises UserError where the encoder left them out."""
    if view.mask is None or encoding.tokens is None:
        raise UserError("iBOT predicts hidden tokens, and was given a view without a mask or an encoder without tokens")
    hidden = view.mask.hidden
    if encoding.tokens.shape[:2] != hidden.shape:
        found = f"{tuple(encoding.tokens.shape[:2])} for a mask over {tuple(hidden.shape)}"
        raise UserError(f"iBOT needs a token at every hidden place, and the encoder returned {found}; let the mask keep them (drop=False)")
    return hidden if encoding.valid is None else hidden & encoding.valid
