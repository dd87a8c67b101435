"""TF-C: a window and its spectrum, each with an augmented twin, an encoder for both domains, and the loss that makes them agree.

Zhang, Zhao, Tsiligkaridis, Zitnik. Self-Supervised Contrastive Pre-Training for Time Series via Time-Frequency Consistency. NeurIPS 2022,
arXiv 2206.08496.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.distributed import gather_rows
from anyview.encoders.encoder import Encoder, Encoding, Streams
from anyview.encoders.heads import mlp
from anyview.errors import UserError
from anyview.objectives.contrast import cross_entropy, require_others, unit
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet
from anyview_timeseries.augmentations import at_least


def magnitudes(windows: Tensor) -> Tensor:
    """|FFT| over time of windows (B, C, T), all T bins, so that energy is kept (norm "ortho").

    >>> x = torch.randn(2, 1, 9)
    >>> torch.allclose(magnitudes(x).square().sum(), x.square().sum())
    True
    """
    return torch.fft.fft(windows, norm="ortho").abs()


class TimeFrequencyViews(ViewMaker):
    """A window and its noisy twin, as the stream "time", then its spectrum and a changed twin, as the stream "frequency"; each (B, C, T).

    jitter: standard deviation of the noise, in the data's units; 2 was published for SleepEEG. removed, added: shares of a spectrum's bins.
    The changed spectrum is the sum of one without the removed bins, and one in which added bins are raised by up to a tenth of the sample's
    largest.

    Raises UserError for numbers out of range.

    >>> views = TimeFrequencyViews()(Batch(torch.randn(4, 1, 30), 4), Draws.seeded(0, total=4)).views
    >>> [(view.stream, tuple(view.data.shape)) for view in views]
    [('time', (4, 1, 30)), ('time', (4, 1, 30)), ('frequency', (4, 1, 30)), ('frequency', (4, 1, 30))]
    """

    gives = Gives(views=4)

    def __init__(self, jitter: float = 0.8, removed: float = 0.1, added: float = 0.1, raised: float = 0.1) -> None:
        self.jitter, self.raised = at_least(jitter, 0, "jitter"), at_least(raised, 0, "raised")
        if not (0 <= removed <= 1 and 0 <= added <= 1):
            raise UserError(f"shares of a spectrum lie between 0 and 1, and {removed:g} removed and {added:g} added were given")
        self.removed, self.added = removed, added

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        window: Tensor = batch.data
        spectrum = magnitudes(window)
        noisy = window + self.jitter * draws.normal(*window.shape[1:]).to(window)
        shown = [("time", window), ("time", noisy), ("frequency", spectrum), ("frequency", self._changed(spectrum, draws))]
        return ViewSet([View(data, stream=stream, index=batch.index, groups=batch.groups) for stream, data in shown], labels=batch.labels)

    def _changed(self, spectrum: Tensor, draws: Draws) -> Tensor:
        shape = spectrum.shape[1:]
        kept = (draws.uniform(*shape) >= self.removed).to(spectrum)
        height = self.raised * spectrum.amax((1, 2), keepdim=True) * draws.uniform(*shape).to(spectrum)
        return spectrum * kept + spectrum + height * draws.bernoulli(self.added, *shape).to(spectrum)


class BothDomains(Encoder):
    """The rows of a window (B, C, T) and of its spectrum side by side, (B, 2 dim): what is embedded after training.

    streams: encoders of "time" and "frequency".
    """

    def __init__(self, streams: Streams) -> None:
        super().__init__()
        self.streams, self.dim = streams, 2 * streams.dim

    def forward(self, view: View) -> Encoding:
        seen = (View(view.data, stream="time"), View(magnitudes(view.data), stream="frequency"))
        return Encoding(torch.cat([self.streams(each).rows for each in seen], 1))


def poly_nt_xent_loss(a: Tensor, b: Tensor, temperature: float = 0.2) -> Tensor:
    """NT-Xent of cosines, plus 1 - M p: p is the mean over all entries of the (2M, 2M - 1) softmax of its values at the positives.

    a, b: (M, D), row i of both from the same sample. All rows equal gives log(2M - 1) + 1 - M / (2M - 1)². Raises ValueError for one row.

    >>> round(float(poly_nt_xent_loss(torch.ones(2, 3), torch.ones(2, 3))), 4)  # log 3 + 1 - 2 / 9
    1.8764
    """
    require_others(len(a), "TF-C")
    rows = unit(torch.cat([a, b]), temperature**-0.5)
    losses = cross_entropy(rows, rows, targets=[len(a), -len(a)], apart=[0])
    positives = losses.neg().exp().sum() / (len(rows) * (len(rows) - 1))
    return losses.mean() + 1 - len(a) * positives


class TimeFrequencyConsistency(Objective):
    """Objective over a window, its twin, its spectrum and that one's twin; owns a projector for each domain.

    In each domain the encoder's rows of a window and of its twin are contrasted, weighted `within`; projected rows of window and spectrum
    are contrasted across domains. triplet: weight of the paper's consistency term, the sum over the three other pairs across domains of
    1 + the loss of window and spectrum - the pair's; the published code leaves it out. hidden, width: of the projectors. temperature: what
    cosines are divided by. Raises UserError where views are not two of each stream.
    """

    needs = Needs(views=4, couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self, dim: int, *, hidden: int = 256, width: int = 128, within: float = 0.2, triplet: float = 0.0, temperature: float = 0.2
    ) -> None:
        super().__init__()
        self.within, self.triplet, self.temperature = within, triplet, temperature
        self.project_time, self.project_frequency = mlp(dim, hidden, width), mlp(dim, hidden, width)

    def forward(self, step: Step) -> Losses:
        time, frequency = (self._rows(step, stream) for stream in ("time", "frequency"))
        losses = Losses(time=self.within * self._loss(*time), frequency=self.within * self._loss(*frequency))
        twins = 2 if self.triplet else 1
        of_time = [gather_rows(self.project_time(rows)) for rows in time[:twins]]
        of_frequency = [gather_rows(self.project_frequency(rows)) for rows in frequency[:twins]]
        losses["consistency"] = self._contrast(of_time[0], of_frequency[0])
        if self.triplet:
            others = [self._contrast(of_time[i], of_frequency[j]) for i, j in ((0, 1), (1, 0), (1, 1))]
            losses["triplet"] = self.triplet * torch.stack([1 + losses["consistency"] - other for other in others]).sum()
        return losses

    def _loss(self, rows: Tensor, twins: Tensor) -> Tensor:
        return self._contrast(gather_rows(rows), gather_rows(twins))

    def _contrast(self, a: Tensor, b: Tensor) -> Tensor:
        return poly_nt_xent_loss(a, b, self.temperature)

    def _rows(self, step: Step, stream: str) -> tuple[Tensor, Tensor]:
        """The encoder's rows of the first two views of a stream."""
        views = [view for view in step.seen_whole if view.stream == stream]
        if len(views) < 2:
            found = ", ".join(repr(view.stream) for view in step.seen_whole)
            asked = "TF-C contrasts two views of the stream 'time' and two of 'frequency'"
            raise UserError(f"{asked}, and those it was shown are of {found}; use the recipe timeseries/tf_c or its views")
        first, second = (step.encode(view).rows for view in views[:2])
        return first, second
