"""Collapse: how far rows are from being all alike, and alarms that say when a run goes there."""

from __future__ import annotations

from typing import Literal

from anyview.evaluation.rows import Rows, float64, unit

DEAD = 1e-6
"""A column whose standard deviation is below this says nothing."""
RECOVERED = 1.5
"""Times the line of too few directions that a rank has to reach before falling below it is told again."""


def mean_standard_deviation(rows: Rows) -> float:
    """sqrt(K) times the mean over columns of the standard deviation of unit rows (N, K): 1 healthy (isotropic), 0 collapsed, never above 1.

    In training over several ranks, give it the gathered rows. One row has no spread: NaN.

    >>> mean_standard_deviation(torch.ones(10, 4))
    0.0
    """
    z = unit(rows)
    if len(z) < 2:
        return float("nan")
    return float(z.std(0, correction=0).mean() * z.shape[1] ** 0.5)


def dead_columns(rows: Rows) -> float:
    """Share of the columns of rows (N, K) whose standard deviation is below 1e-6.

    >>> dead_columns(torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
    0.5
    """
    return float((float64(rows).std(0, correction=0) < DEAD).double().mean())


State = Literal["healthy", "narrow", "collapsed"]


class CollapseAlarm:
    """Watches `mean_standard_deviation` over a run and speaks when it becomes worse, once per fall.

    warn: below it for `patience` logs in a row, rows are narrow. collapsed: below it, at once, they have collapsed. warmup: logs that are
    not judged. `state` holds the last judgement.

    >>> alarm = CollapseAlarm()
    >>> [alarm.update(c) for c in (0.9, 0.1, 0.1)]
    [None, None, None]
    >>> print(alarm.update(0.1))
    rows are narrow: their standard deviation on the sphere is 0.100 (1 healthy, 0 collapsed) and was below 0.2 in the last 3 logs
    """

    def __init__(self, *, warn: float = 0.2, collapsed: float = 0.05, patience: int = 3, warmup: int = 0) -> None:
        self.warn, self.collapsed, self.patience, self.warmup = warn, collapsed, patience, warmup
        self.state: State = "healthy"
        self._low = self._seen = 0

    def update(self, c: float) -> str | None:
        """Judge the latest value; one sentence when the state became worse, else None."""
        self._seen += 1
        if self._seen <= self.warmup:
            return None
        self._low = self._low + 1 if c < self.warn else 0
        before, self.state = self.state, self._judge(c)
        if _SEVERITY[self.state] <= _SEVERITY[before]:
            return None
        since = f" and was below {self.warn:g} in the last {self._low} logs" if self.state == "narrow" else ""
        verb = "are narrow" if self.state == "narrow" else "have collapsed"
        return f"rows {verb}: their standard deviation on the sphere is {c:.3f} (1 healthy, 0 collapsed){since}"

    def _judge(self, c: float) -> State:
        if c < self.collapsed:
            return "collapsed"
        return "narrow" if self._low >= self.patience else "healthy"


_SEVERITY = {"healthy": 0, "narrow": 1, "collapsed": 2}


class DimensionAlarm:
    """Speaks when rows that still differ fill few directions: centred entropy rank below `share` of min(N, K), `patience` logs in a row.

    It speaks again of a later stay, once the rank has been above half as much again: one that wavers about the line is told once.

    >>> alarm = DimensionAlarm(patience=1)
    >>> alarm.update(40.0, samples=1000, width=128)
    >>> print(alarm.update(2.0, samples=1000, width=128))
    rows fill few directions: their entropy rank is 2.0 and could be 128 (dimensional collapse is below 6.4)
    """

    def __init__(self, *, share: float = 0.05, patience: int = 3) -> None:
        self.share, self.patience = share, patience
        self._low, self._spoke = 0, False

    def update(self, entropy_rank: float, *, samples: int, width: int) -> str | None:
        """Judge the latest entropy rank of rows (samples, width); one sentence when it has just stayed low for long enough, else None."""
        most = min(samples, width)
        self._low = self._low + 1 if entropy_rank < self.share * most else 0
        self._spoke = self._spoke and entropy_rank < RECOVERED * self.share * most
        if self._spoke or self._low < self.patience:
            return None
        self._spoke = True
        could = f"could be {most} (dimensional collapse is below {self.share * most:.1f})"
        return f"rows fill few directions: their entropy rank is {entropy_rank:.1f} and {could}"


class LineAlarm:
    """Speaks when a loss has stayed at its collapse line for an epoch in which the learning rate was above 0, once per stay.

    within: how near counts as at the line, as a share of the line (of 1 where the line is 0).

    >>> alarm = LineAlarm()
    >>> [alarm.update(step, loss=4.15, line=4.16, lr=0.1, epoch=10) for step in (5, 10)]
    [None, None]
    >>> print(alarm.update(15, loss=4.15, line=4.16, lr=0.1, epoch=10))
    the loss is 4.15 and has been within 1 % of 4.16, its value when all rows are equal, for an epoch
    """

    def __init__(self, *, within: float = 0.01) -> None:
        self.within = within
        self._since: int | None = None
        self._spoke = False

    def update(self, step: int, *, loss: float, line: float | None, lr: float, epoch: float) -> str | None:
        """Judge the loss after a step; epoch: steps in one. One sentence when the stay has just become an epoch long, else None."""
        if line is None or lr <= 0 or not abs(loss - line) <= self.within * (abs(line) or 1.0):
            self._since, self._spoke = None, False
            return None
        self._since = step if self._since is None else self._since
        if self._spoke or step - self._since < epoch:
            return None
        self._spoke = True
        where = f"within {100 * self.within:g} % of {line:.4g}, its value when all rows are equal, for an epoch"
        return f"the loss is {loss:.4g} and has been {where}"
