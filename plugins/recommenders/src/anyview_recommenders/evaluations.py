"""The protocol of recommenders: full ranking of the catalogue, beside the classical recommenders on the same parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from scipy.sparse import csr_matrix

from anyview.data.source import Source
from anyview.early_stopping import EarlyStopping
from anyview.encoders.encoder import Encoder
from anyview.errors import UserError
from anyview.evaluation.embedding import moved
from anyview.evaluation.limits import Limits
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData
from anyview_recommenders.baselines.als import als
from anyview_recommenders.baselines.ease import ease
from anyview_recommenders.baselines.item_knn import item_knn
from anyview_recommenders.baselines.markov import transitions
from anyview_recommenders.baselines.popularity import popularity
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.histories import PartName
from anyview_recommenders.ranking import HEAD, MEMORY, rank
from anyview_recommenders.scorer import DotProduct, Scorer
from anyview_recommenders.source import InteractionSource

Part = Literal["test", "validation"]


def _log(data: ProtocolData) -> InteractionSource:
    """The log that rows are of; raises UserError where they are of something else."""
    if not isinstance(data.source, InteractionSource):
        raise UserError(f"the protocol ranking reads logs of interactions, and the data {data.source.name!r} is something else")
    return data.source


def score_part(
    scorer: Scorer,
    source: InteractionSource,
    *,
    k: int,
    part: Part,
    cold: bool = False,
    head: float = HEAD,
    users: int | None = None,
    memory: int = MEMORY,
) -> Scores:
    """Measures of a scorer's lists of k items on one part of a log, by name without the k, and how many users count."""
    parts = source.parts
    relevant, train = getattr(parts, part).matrix(), parts.train.matrix()
    if not relevant.nnz:
        raise UserError(f"the {part} part of {source.name!r} is empty, and it was to be ranked; keep some with --reading.validation 0.1")
    seen = csr_matrix(train + parts.validation.matrix()) if part == "test" else train
    found = rank(scorer, seen, relevant, k=[k], history=train, cold=cold, head=head, users=users, memory=memory)
    scores = {name.partition("@")[0]: value for name, value in found.means().items()}
    return {**scores, "users": float(len(found.users)), "cold_users": float(found.cold)}


def _of_training(make: Callable[[csr_matrix], Scorer]) -> Callable[[InteractionSource, Part], Scorer]:
    """What is fitted to the training matrix alone, whatever part is ranked."""
    return lambda source, _part: make(source.parts.train.matrix())


def markov_of(source: InteractionSource, part: Part) -> Scorer | None:
    """First-order Markov: transitions of the training part, after the last item before the ranked part; None for a log without order."""
    histories = source.catalogue.histories
    if histories is None:
        return None
    train, known = histories.until("train"), histories.until("train" if part == "validation" else "validation")
    return transitions(train.owners.numpy(), train.items.numpy(), known.last_items().numpy(), source.shape["items"])


def _beside(make: Callable[[InteractionSource, Part], Scorer | None]) -> Callable[..., Scores]:
    """A classical recommender as a baseline of the protocol: fitted to the training part, scored as the encoder is, once for all seeds.

    Nothing where there is no scorer for the log.
    """

    made: WeakKeyDictionary[InteractionSource, dict[tuple[Any, ...], Scores]] = WeakKeyDictionary()

    def score(data: ProtocolData, _seed: int, **options: Any) -> Scores:
        source, asked = _log(data), tuple(options.items())
        scores = made.setdefault(source, {})
        if asked not in scores:
            scorer = make(source, options["part"])
            scores[asked] = {} if scorer is None else score_part(scorer, source, **options)
        return dict(scores[asked])

    return score


BASELINES = {
    "Markov": _beside(markov_of),
    "ItemKNN": _beside(_of_training(partial(item_knn, neighbours=100, shrinkage=10.0))),
    "EASE": _beside(_of_training(partial(ease, regularisation=100.0))),
    "ALS": _beside(_of_training(partial(als, regularisation=10.0, confidence=10.0))),
}


@protocol(
    headline="recall",
    needs="source",
    labels="source",
    majority=_beside(_of_training(popularity)),
    constant="popularity",
    baselines=BASELINES,
    facts=("users", "cold_users"),
    units={"popularity": "users per item"},
    limits={"k": Limits(at_least=1), "head": Limits(above=0, below=1), "users": Limits(at_least=1), "memory": Limits(at_least=1)},
)
def ranking(
    data: ProtocolData,
    seed: int,  # noqa: ARG001  nothing is drawn
    *,
    k: int = 20,
    part: Part = "test",
    cold: bool = False,
    head: float = HEAD,
    users: int | None = None,
    memory: int = MEMORY,
) -> Scores:
    """Full ranking by the inner products of user and item rows: recall, precision, hit rate, MRR, NDCG and MAP of the k best items.

    Every item of the catalogue is a candidate; those in the user's training part, and for the test part in the validation part, are left
    out. Equal scores rank the smaller position first. Users count who have an item in `part`, and something in training unless `cold`.
    recall and ndcg also of the `head` of the catalogue (its most popular items) and of the tail alone; coverage: share of the catalogue in
    any list; popularity: mean training count of what is listed. An encoder of sequences reads what a user did before `part`. Baselines are
    fitted to the training part at settings of their own, which were not tuned to the data. users: of more users who count so many are
    ranked, drawn once, the same for every row of the table; all by default. memory: bytes of scores at once, of which a few copies are
    made. Raises UserError for data that is no log, and for an empty part.
    """
    source, count = _log(data), _log(data).shape["users"]
    shown = source.ranked_on(part)
    rows = torch.from_numpy(data.rows if shown is source else data.embed(shown))
    return score_part(DotProduct(rows[:count], rows[count:]), source, k=k, part=part, cold=cold, head=head, users=users, memory=memory)


class ValidationScore:
    """How well an encoder ranks the validation part of a log: what early stopping looks at.

    measure: of the k best items. users: at most so many, drawn once.
    """

    def __init__(self, source: InteractionSource, *, measure: str = "recall", k: int = 20, users: int = 10_000) -> None:
        self.catalogue, self.relevant = source.catalogue, source.parts.validation.matrix()
        self.measure, self.k, self.users = measure, k, users

    def __call__(self, encoder: Encoder) -> float:
        """The measure, 0 to 1, of an encoder in evaluation mode, where it is."""
        scorer = scorer_of(encoder, self.catalogue, until="train")
        return rank(scorer, self.catalogue.train, self.relevant, k=[self.k], users=self.users).means()[f"{self.measure}@{self.k}"]


def stop_early(source: Source, *, every: int, patience: int) -> EarlyStopping | None:
    """Early stopping by the validation part of a log; None where it has none, and where a run is loaded without its data."""
    if not isinstance(source, InteractionSource) or not len(source.parts.validation):
        return None
    return EarlyStopping(ValidationScore(source), name="validation recall@20", every=every, patience=patience)


@torch.no_grad()
def scorer_of(encoder: Encoder, catalogue: Catalogue, *, until: PartName = "test") -> DotProduct:
    """An encoder's rows of all users and items as a scorer, where the encoder is; until: the last part that sequences are read from."""
    device = next(encoder.parameters()).device
    rows = torch.cat([encoder(moved(view, device)).rows.float() for view in catalogue.clean(until=until)])
    return DotProduct(rows[: catalogue.users], rows[catalogue.users :])
