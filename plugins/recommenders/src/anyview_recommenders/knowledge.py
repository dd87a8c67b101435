"""Knowledge beside a log: triples of a head, a relation and a tail, some of whose entities are the log's items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anyview.errors import UserError
from anyview_recommenders.catalogue import packed, unpacked
from anyview_recommenders.feature_tables import SUFFIXES, found_file, frame_of, places_of, read_table
from anyview_recommenders.interactions import numbered
from anyview_recommenders.raw import shared_ids
from anyview_recommenders.tables import of_one_kind, of_strings, usual_column
from anyview_recommenders.text import read_words

FIELDS = ("head", "relation", "tail")


@dataclass(frozen=True, eq=False)
class Links:
    """Which items are which entities: ids of items (m,), each once, and of their entities (m,)."""

    items: np.ndarray
    entities: np.ndarray


@dataclass(frozen=True, eq=False)
class Knowledge:
    """Triples as they are written: `head` stands in `relation` to `tail`; an id is one entity wherever it stands.

    head, tail: (n,) int64 positions in entity_ids. relation: (n,) int64 positions in relation_ids. Ids are integers or strings. links:
    which items are which entities; None where an item is the entity of its own id.

    >>> knowledge = Knowledge.from_ids(["f1", "f2"], ["genre", "genre"], ["war", "war"])
    >>> knowledge.head.tolist(), knowledge.tail.tolist(), knowledge.entity_ids.tolist()
    ([0, 1], [2, 2], ['f1', 'f2', 'war'])
    """

    head: np.ndarray
    relation: np.ndarray
    tail: np.ndarray
    entity_ids: np.ndarray
    relation_ids: np.ndarray
    links: Links | None = None

    @classmethod
    def from_ids(
        cls, head: Sequence[Any] | np.ndarray, relation: Sequence[Any] | np.ndarray, tail: Sequence[Any] | np.ndarray
    ) -> Knowledge:
        """Of original ids (n,), integers or strings; strings in both where heads or tails have strings."""
        (heads, head_ids), (tails, tail_ids) = numbered(head), numbered(tail)
        (of_heads, of_tails), entity_ids = shared_ids([head_ids, tail_ids])
        relations, relation_ids = numbered(relation)
        return cls(of_heads[heads], relations, of_tails[tails], entity_ids, relation_ids)

    def __len__(self) -> int:
        return len(self.head)


@dataclass(frozen=True, eq=False)
class KnowledgeGraph:
    """Triples between entities, of which the first are a log's items.

    items: I. entities: how many, items among them; entity i < I is item i. head, relation, tail: (T,) int64, each triple once. relations:
    (R,) strings, what they are called.

    >>> graph = KnowledgeGraph(1, 2, np.array([0]), np.array([0]), np.array([1]), np.array(["genre"], dtype=object))
    >>> [part.tolist() for part in graph.both_ways()]
    [[0, 1], [0, 1], [1, 0]]
    """

    items: int
    entities: int
    head: np.ndarray
    relation: np.ndarray
    tail: np.ndarray
    relations: np.ndarray

    @classmethod
    def of(cls, kept: Mapping[str, np.ndarray], items: int) -> KnowledgeGraph:
        """What a run keeps of it, read back."""
        names = unpacked(kept, "knowledge_relations")
        head, relation, tail = (kept[f"knowledge_{field}"] for field in FIELDS)
        return cls(items, int(kept["knowledge_entities"][0]), head, relation, tail, names)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as plain arrays by name, for `of`."""
        triples = {f"knowledge_{field}": getattr(self, field) for field in FIELDS}
        return {"knowledge_entities": np.array([self.entities]), **triples, **packed("knowledge_relations", self.relations)}

    def both_ways(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Heads, relations and tails (2T,), of the triples and then of their inverses, whose relations are R .. 2R - 1."""
        inverse = self.relation + len(self.relations)
        parts = ((self.head, self.tail), (self.relation, inverse), (self.tail, self.head))
        heads, relations, tails = (np.concatenate(part) for part in parts)
        return heads, relations, tails

    def facts(self) -> dict[str, str]:
        """What a user should know of it, in words."""
        known = np.zeros(self.entities, dtype=bool)
        known[self.head] = known[self.tail] = True
        sizes = f"{len(self.head):,} triples of {len(self.relations):,} relations, {self.entities - self.items:,} entities beside the items"
        return {"knowledge": f"{sizes}; {int(known[: self.items].sum()):,} of {self.items:,} items have some"}


def read_knowledge(given: Any, link: Any = None, log_path: Path | None = None) -> Knowledge:
    """Triples as they are written.

    given: triples that are read already; a DataFrame, or the path of a CSV, TSV or parquet file or of RecBole's .kg, whose columns are
    called head, relation and tail as they usually are, or are these three; a text of three fields a line without a header. link: a table of
    items and their entities; a .kg has it in the .link of the same name, where there is one. log_path: where the log lies, near which files
    are looked for too. Raises UserError for what cannot be read, for another number of columns, and for a missing field.
    """
    links = None if link is None else read_links(link, log_path)
    if isinstance(given, Knowledge):
        return given if links is None else replace(given, links=links)
    if not isinstance(given, str | Path):
        return replace(_of_frame(frame_of(given, "the table of knowledge"), "the table of knowledge"), links=links)
    path, what = found_file(Path(given).expanduser(), log_path, "file of knowledge"), f"the file {str(given)!r}"
    if path.suffix.lower() not in SUFFIXES:
        head, relation, tail = (of_strings(column)[place] for place, column in map(_numbered, read_words(path, FIELDS)))
        return replace(Knowledge.from_ids(head, relation, tail), links=links)
    beside = path.with_suffix(".link")
    if links is None and path.suffix.lower() == ".kg" and beside.is_file():
        links = read_links(beside)
    return replace(_of_frame(frame_of(path, what), what, texts=path.suffix.lower() != ".parquet"), links=links)


def read_links(given: Any, log_path: Path | None = None) -> Links:
    """Which items are which entities: a DataFrame or file with a column of items, each once, and one of their entities."""
    table = read_table(given, "item", None, log_path)
    names = list(table.columns)
    name = usual_column("entity", names) or (names[0] if len(names) == 1 else None)
    if name is None:
        listed = ", ".join(map(repr, names)) or "nothing"
        raise UserError(f"{table.what} has {listed} beside its items, and a column of entities was expected; call it entity")
    return Links(table.ids, _ids(table.columns[name], name, table.what, texts=isinstance(given, str | Path)))


def knowledge_graph(knowledge: Knowledge, item_ids: np.ndarray) -> tuple[KnowledgeGraph, dict[str, str]]:
    """Triples among a log's items and all other entities, and what was left out of them, in words.

    item_ids: (I,) those of the log, integers or strings. An entity that is several items has its triples with each of them; repeated
    triples are merged. Raises UserError where no triple has an item.

    >>> knowledge = Knowledge.from_ids(["7", "7", "x"], ["genre", "genre", "near"], ["war", "war", "war"])
    >>> graph, told = knowledge_graph(knowledge, np.array([5, 7]))
    >>> list(zip(graph.head.tolist(), graph.tail.tolist())), told
    ([(1, 3), (2, 3)], {'left out of knowledge': '1 repeated'})
    """
    nodes, entities = _nodes(knowledge, item_ids)
    triples = pd.DataFrame({field: getattr(knowledge, field) for field in FIELDS})
    for field in ("head", "tail"):
        triples = triples.merge(nodes.rename(columns={"entity": field, "node": f"{field}_node"}), on=field)
    triples = triples[["head_node", "relation", "tail_node"]]
    distinct = triples.drop_duplicates()
    if not (distinct[["head_node", "tail_node"]] < len(item_ids)).any(axis=None):
        raise _strangers(knowledge, item_ids)
    head, relation, tail = (distinct[column].to_numpy(dtype=np.int64) for column in distinct)
    names = np.array([str(one) for one in knowledge.relation_ids.tolist()], dtype=object)
    repeated = len(triples) - len(distinct)
    told = {"left out of knowledge": f"{repeated:,} repeated"} if repeated else {}
    return KnowledgeGraph(len(item_ids), entities, head, relation, tail, names), told


def _nodes(knowledge: Knowledge, item_ids: np.ndarray) -> tuple[pd.DataFrame, int]:
    """The nodes of each entity, in order: the items that it is, or a number behind all items; and how many nodes there are."""
    links = knowledge.links or Links(item_ids, item_ids)
    items, entities = places_of(links.items, item_ids), places_of(links.entities, knowledge.entity_ids)
    there = (items >= 0) & (entities >= 0)
    others = np.setdiff1d(np.arange(len(knowledge.entity_ids)), entities[there])
    entity = np.concatenate([entities[there], others])
    node = np.concatenate([items[there], len(item_ids) + np.arange(len(others))])
    return pd.DataFrame({"entity": entity, "node": node}), len(item_ids) + len(others)


def _strangers(knowledge: Knowledge, item_ids: np.ndarray) -> UserError:
    items = ", ".join(map(repr, item_ids[:2].tolist()))
    entities = ", ".join(map(repr, knowledge.entity_ids[:2].tolist()))
    found = f"none of {len(knowledge):,} triples has an item of the log, such as {items}; their entities are such as {entities}"
    return UserError(f"{found}; write ids alike, or name a table of items and entities: --reading.link FILE")


def _of_frame(frame: pd.DataFrame, what: str, *, texts: bool = False) -> Knowledge:
    """The triples of a table, whose ids are as texts have them where it was read from one."""
    names = [str(name) for name in frame.columns]
    usual = [usual_column(field, names) for field in FIELDS]
    chosen = names if len(names) == len(FIELDS) and None in usual else usual
    if None in chosen:
        listed = ", ".join(map(repr, names))
        raise UserError(f"{what} has the columns {listed}, and knowledge needs three: head, relation and tail; name or choose them so")
    if frame.empty:
        raise UserError(f"{what} holds no triples; give a row for each")
    frame = frame.set_axis(names, axis=1)
    return Knowledge.from_ids(*(_ids(frame[name], str(name), what, texts=texts) for name in chosen))


def _ids(column: pd.Series, name: str, what: str, *, texts: bool) -> np.ndarray:
    """A column of ids (n,), none of them missing, integers or strings."""
    missing = (column.isna() | (column == "")).to_numpy()
    if missing.any():
        found = f"{what} has nothing in the column {name!r} in {int(missing.sum()):,} of {len(column):,} rows"
        raise UserError(f"{found}, the first is row {int(missing.argmax()) + 1}; leave those rows out, or fill them in")
    place, distinct = _numbered(column.astype(object))
    strings = texts and all(isinstance(one, str) for one in distinct)
    return (of_strings(distinct) if strings else of_one_kind(np.array(distinct, dtype=object), f"the column {name!r} of {what}"))[place]


def _numbered(words: Sequence[Any] | pd.Series) -> tuple[np.ndarray, list[Any]]:
    """Positions (n,) of words (n,), and the distinct ones in the order of their first appearance."""
    place, distinct = pd.factorize(np.asarray(words, dtype=object))
    return place, distinct.tolist()
