"""A log of several behaviours told apart: the one that is predicted is the log, and the others stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scipy.sparse import csr_matrix

from anyview.errors import UserError, unknown
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.splits import Parts

Some = Interactions | None


class ToldApart(NamedTuple):
    """log, others: their interactions of the target. beside: the log's matrix of each other behaviour, in its order. target: its name."""

    log: Interactions
    others: list[Some]
    beside: dict[str, csr_matrix]
    target: str


def told_apart(log: Interactions, others: Sequence[Some], target: str, name: str) -> ToldApart:
    """A log and further parts with the target behaviour alone, and what was done beside it.

    others: held-out parts; those that tell no behaviour are of the target. target: a behaviour, or "last" for the last that the log names.
    name: of the data, for errors. Raises UserError for a log without behaviours, and for a target that it does not name.

    >>> log = Interactions.from_ids([1, 1, 1], [5, 6, 5], behaviour=np.array([0, 0, 1]), behaviours=("view", "buy"))
    >>> own, _, beside, target = told_apart(log, [], "last", "shop")
    >>> len(own), beside["view"].toarray().tolist(), target
    (1, [[1.0, 1.0]], 'buy')
    """
    if log.behaviour is None:
        sentence = f"the target {target!r} was asked for, and {name!r} has no column of behaviours"
        raise UserError(f"{sentence}; name it with --reading.behaviour_column, or choose a model of one behaviour")
    chosen = log.behaviours[-1] if target == "last" else target
    parts = [part if part is None or part.behaviour is None else of_behaviour(part, chosen, name) for part in others]
    beside = {own: of_behaviour(log, own, name).matrix() for own in log.behaviours if own != chosen}
    return ToldApart(of_behaviour(log, chosen, name), parts, beside, chosen)


def of_behaviour(log: Interactions, behaviour: str, name: str) -> Interactions:
    """The interactions of one behaviour; raises UserError where the log does not name it."""
    if log.behaviour is None or behaviour not in log.behaviours:
        raise unknown(f"behaviour of {name!r}", behaviour, log.behaviours, look=f"{', '.join(log.behaviours)}")
    return log.select(log.behaviour == log.behaviours.index(behaviour))


def without_held_out(matrix: csr_matrix, parts: Parts) -> csr_matrix:
    """A behaviour (U, J) without the pairs that validation and test hold of the target: what is held out is so in every behaviour.

    It is (U, I) then; the last I - J items of the parts have joined the catalogue since, and nobody has them.
    """
    held_out = parts.validation.matrix() + parts.test.matrix()
    own = csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=held_out.shape)
    left = csr_matrix(own - own.multiply(held_out > 0))
    left.eliminate_zeros()
    left.sort_indices()
    return left
