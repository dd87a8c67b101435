"""What stands beside a log: whom its users trust, what else they did with its items, how and when, and what is known of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from anyview.data.source import Source
from anyview.errors import UserError
from anyview_recommenders.catalogue import matrix_of, packed, unpacked
from anyview_recommenders.knowledge import KnowledgeGraph


@dataclass(frozen=True, eq=False)
class Beside:
    """Trust between the users of a log, their other behaviours, ratings and times of what they used, and knowledge of its items.

    trust: (U, U) CSR of ones, row u has those that user u trusts; nobody trusts themselves. behaviours: (U, I) CSR of ones for each
    auxiliary behaviour by name, in the log's order. target: the behaviour that the log itself is of, "" where they are not told apart.
    knowledge: triples, of whose entities the first are the items. ratings, times: (n,) float64, of the training matrix's entries.

    >>> beside = Beside(behaviours={"view": csr_matrix(np.eye(2, 3))}, target="buy")
    >>> again = Beside.of(beside.arrays(), users=2, items=3)
    >>> list(again.behaviours), again.behaviours["view"].nnz, again.target, again.trust
    (['view'], 2, 'buy', None)
    """

    trust: csr_matrix | None = None
    behaviours: Mapping[str, csr_matrix] = field(default_factory=dict)
    target: str = ""
    knowledge: KnowledgeGraph | None = None
    ratings: np.ndarray | None = None
    times: np.ndarray | None = None

    @classmethod
    def of(cls, kept: Mapping[str, np.ndarray], users: int, items: int) -> Beside:
        """What a run keeps of it, read back."""
        trust = matrix_of(kept, "trust", users) if "trust_starts" in kept else None
        *others, target = unpacked(kept, "behaviours").tolist() if "behaviours" in kept else [""]
        behaviours = {name: matrix_of(kept, f"behaviour_{place}", items) for place, name in enumerate(others)}
        knowledge = KnowledgeGraph.of(kept, items) if "knowledge_head" in kept else None
        return cls(trust, behaviours, target, knowledge, kept.get("ratings"), kept.get("times"))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as plain arrays by name, for `of`; none where there is nothing."""
        matrices = {} if self.trust is None else {"trust": self.trust}
        matrices |= {f"behaviour_{place}": matrix for place, matrix in enumerate(self.behaviours.values())}
        names = np.array([*self.behaviours, self.target], dtype=object)
        found = packed("behaviours", names) if self.target else {}
        found |= {} if self.knowledge is None else self.knowledge.arrays()
        found |= {name: own for name, own in (("ratings", self.ratings), ("times", self.times)) if own is not None}
        for name, matrix in matrices.items():
            found |= {f"{name}_starts": matrix.indptr, f"{name}_items": matrix.indices}
        return found


def trust_of(source: Source) -> csr_matrix:
    """Who trusts whom, (U, U) CSR of ones, of a log or of the outline that a run is loaded with; raises UserError where there is none."""
    trust = _beside(source).trust
    if trust is None:
        sentence = f"the data {source.name!r} has no trust between its users beside it, and a social model was asked for"
        raise UserError(f"{sentence}; name a file with a user and whom they trust on each line: --reading.trust FILE")
    return trust


def behaviours_of(source: Source) -> dict[str, csr_matrix]:
    """Each behaviour's (U, I) CSR of ones by name, the target last, of a log or an outline; raises UserError where they are one."""
    beside = _beside(source)
    if not beside.target:
        sentence = f"the behaviours of {source.name!r} are not told apart, and a model of several was asked for"
        raise UserError(f"{sentence}; open it with target='last', or with the name of the behaviour that is predicted")
    return {**beside.behaviours, beside.target: matrix_of(source.keeps(), "train", source.shape["items"])}


def knowledge_of(source: Source) -> KnowledgeGraph:
    """The triples beside a log, or the outline that a run is loaded with; raises UserError where there are none."""
    knowledge = _beside(source).knowledge
    if knowledge is None:
        sentence = f"the data {source.name!r} has no knowledge of its items beside it, and a model of a knowledge graph was asked for"
        raise UserError(f"{sentence}; name a file with a head, a relation and a tail on each line: --reading.knowledge FILE")
    return knowledge


def ratings_and_times(source: Source) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Of each entry of the training matrix its rating and its time in seconds, (n,) float64; None for what the log does not say.

    It is of a log, or of the outline that a run is loaded with, that was opened with details=True.
    """
    beside = _beside(source)
    return beside.ratings, beside.times


def _beside(source: Source) -> Beside:
    return Beside.of(source.keeps(), source.shape["users"], source.shape["items"])


def facts(beside: Beside, interactions: int) -> dict[str, Any]:
    """What a user should know of it; interactions: how many of the target behaviour are for training."""
    found: dict[str, Any] = {}
    if beside.trust is not None:
        mutual = int(beside.trust.multiply(beside.trust.T).nnz)
        links, alone = beside.trust.nnz, int((np.diff(beside.trust.indptr) == 0).sum())
        found["trust"] = f"{links:,} links, {100 * mutual / max(1, links):.0f} % of them mutual; {alone:,} users trust nobody"
    if beside.target:
        counted = [f"{name} {matrix.nnz:,}" for name, matrix in beside.behaviours.items()]
        found["behaviours"] = ", ".join([*counted, f"{beside.target} {interactions:,} (predicted; its history alone is left out of lists)"])
    return found if beside.knowledge is None else found | beside.knowledge.facts()
