"""Logs by name or path: what a user's `data` means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.sparse import csr_matrix

from anyview.data.roots import data_root, place_of
from anyview.data.source import Source
from anyview.errors import UserError, unknown
from anyview_recommenders.behaviours import of_behaviour, told_apart, without_held_out
from anyview_recommenders.beside import Beside
from anyview_recommenders.feature_tables import FeatureOptions, only_new, read_tables, side_features
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.knowledge import KnowledgeGraph, knowledge_graph, read_knowledge
from anyview_recommenders.raw import Raw
from anyview_recommenders.readers import SUFFIXES, read_frame, read_path
from anyview_recommenders.source import InteractionSource
from anyview_recommenders.splits import Parts, SplitName, joined, k_core, split, thin
from anyview_recommenders.tables import Columns
from anyview_recommenders.trust import read_trust, trust_matrix

Reading = dict[str, Any] | None
"""A recipe's parameter `reading`: options of `open_interactions`, given on a command line as `--reading.split temporal`."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a log becomes parts.

    split: by default the given one where there is one, else temporal where there are times, else ratio. share, validation, seed: as in
    `splits.split`; of data that brings a validation part, 0 makes it training too, and all else leaves it as it is. k_core: fewest
    interactions of a user and an item. min_rating: lower ratings are left out. behaviour: the only one kept; "all" keeps them all. target:
    the behaviour that is predicted, and that parts are of; the others are kept beside them ("last" is the last that the log names). trust:
    a file of links between users, or "own" for those that come with the data, where it has some. mutual: trust holds both ways.
    knowledge: a file of triples, or "own" as for trust. link: a table of items and their entities, where ids are not equal.
    details: the rating and the time of each training pair are kept beside it, where the log has them. train_share: the share of the
    training interactions that is kept, drawn with `seed`, at least one a user.
    """

    split: SplitName | None = None
    share: float = 0.8
    validation: float = 0.1
    seed: int = 0
    k_core: int = 1
    min_rating: float | None = None
    behaviour: str | None = None
    target: str | None = None
    trust: Any = None
    mutual: bool = False
    knowledge: Any = None
    link: Any = None
    details: bool = False
    train_share: float = 1.0

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in get_args(SplitName):
            raise unknown("split", self.split, get_args(SplitName), look=", ".join(get_args(SplitName)))
        for name in ("share", "validation", "seed", "k_core", "min_rating", "train_share"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int | float):
                raise UserError(f"the option {name} of a log takes a number, and was given {value!r}; give one such as {name}=1")


OPTIONS = tuple(field.name for kind in (Preparation, Columns, FeatureOptions) for field in fields(kind))


def open_interactions(data: Any, **options: Any) -> Source:
    """The log that a user's `data` means, filtered and split.

    data: a source (returned as it is); a DataFrame; an `Interactions`; the path of a file or folder in a layout of `readers`; a name of
    such under the data root; the name of a registered data set ("lastfm", "generated"). options: those of `Preparation` (split, share,
    validation, seed, k_core, min_rating, behaviour, target, trust, mutual, knowledge, link, details, train_share), of `Columns` (user,
    item, rating, time, behaviour_column, separator, layout) and of `FeatureOptions` (features, item_features, user_features, categories,
    lists, numbers, left_out, between, least, longest, buckets, new_items).
    Raises UserError for what cannot be read, is refused by the preparation, and for unknown options.

    >>> open_interactions("generated").shape["users"]
    600
    >>> import pandas
    >>> log = pandas.DataFrame({"customer": ["007", "Zoë"] * 3, "product": [1, 1, 2, 2, 3, 3], "ts": range(6)})
    >>> source = open_interactions(log, user="customer", item="product", time="ts", validation=0)
    >>> source.ids, source.split(0).name.rpartition(", ")[2]
    (['007', 'Zoë', '1', '2', '3'], 'by time')
    """
    if isinstance(data, Source):
        return data
    for word in options:
        if word not in OPTIONS:
            kind = f"option of the data {str(data) if isinstance(data, str | Path) else 'given'!r}"
            raise unknown(kind, word, OPTIONS, look="docs/recommenders.md")
    if isinstance(data, Interactions):
        return prepare(Raw(data, layout="given"), "given", options)
    if not isinstance(data, str | Path):
        return prepare(read_frame(data, of(Columns, options), "the table given"), "table", options)
    path = find(data)
    if path is None:
        return _named(str(data), options)
    source = prepare(read_path(path, of(Columns, options)), path.name.partition(".")[0], options, log_path=path)
    source.place = place_of(data, path)
    return source


def prepare(raw: Raw, name: str, options: Mapping[str, Any], *, log_path: Path | None = None) -> InteractionSource:
    """What was read, filtered and split, with what is asked for beside it; log_path: where it was read, and tables may lie."""
    how: Preparation = of(Preparation, options)
    asked: FeatureOptions = of(FeatureOptions, options)
    parts, behaviours, target = _in_parts(raw, how, name)
    trust, told = _trust(raw, parts.train.user_ids, how)
    tables = read_tables(asked, raw.tables, of(Columns, options), log_path) if asked.wanted else {}
    if asked.new_items and "item" in tables:
        parts = _with_items(parts, only_new(tables["item"], parts.train.item_ids).ids)
    side, noted = side_features(parts.train, tables, asked) if asked.wanted else (None, {})
    knowledge, untold = _knowledge(raw, parts.train.item_ids, how, log_path)
    behaviours = {own: without_held_out(matrix, parts) for own, matrix in behaviours.items()}
    beside = Beside(trust, behaviours, target, knowledge, **(_details(parts.train) if how.details else {}))
    told |= untold
    return InteractionSource(name, parts, side=side, beside=beside, notes={"layout": raw.layout, **raw.notes, **told, **noted})


def _in_parts(raw: Raw, how: Preparation, name: str) -> tuple[Parts, dict[str, csr_matrix], str]:
    """The parts, the training matrices of further behaviours, and the behaviour that parts are of, "" where they are not told apart."""
    log = _filtered(raw.log, how, name)
    validation, test = (None if part is None else _filtered(part, how, name) for part in (raw.validation, raw.test))
    parted = validation is not None or test is not None
    if how.k_core > 1:
        if parted:
            raise UserError(f"the data {name!r} is split already, and a filter by k_core would change its parts; leave k_core out")
        log = k_core(log, how.k_core)
    if parted and how.split not in (None, "given"):
        log, validation, test, parted = joined([part for part in (log, validation, test) if part is not None]), None, None, False
    behaviours: dict[str, csr_matrix] = {}
    target = ""
    if how.target is not None:
        log, (validation, test), behaviours, target = told_apart(log, (validation, test), how.target, name)
    if validation is not None and how.validation == 0:
        log, validation = joined([log, validation]), None
    kind = how.split or ("given" if parted else "ratio" if log.time is None else "temporal")
    drawn = how.validation if validation is None else 0.0
    parts = split(log, kind, share=how.share, validation=drawn, seed=how.seed, test=test)
    if validation is not None:
        parts = replace(parts, validation=validation)
    return thin(parts, how.train_share, how.seed), behaviours, target


def _details(train: Interactions) -> dict[str, np.ndarray]:
    """Ratings and times of the training matrix's entries, where the log has them."""
    said = {"ratings": train.rating, "times": train.time}
    return {name: train.of_pairs(own) for name, own in said.items() if own is not None}


def _with_items(parts: Parts, ids: np.ndarray) -> Parts:
    """The same parts with further items (n,) behind their own, which nobody has."""
    whole = np.concatenate([parts.train.item_ids, ids])
    return replace(parts, **{part: replace(getattr(parts, part), item_ids=whole) for part in ("train", "validation", "test")})


def of(kind: type, options: Mapping[str, Any]) -> Any:
    """The options that a dataclass has, as one."""
    return kind(**{field.name: options[field.name] for field in fields(kind) if options.get(field.name) is not None})


def find(data: str | Path) -> Path | None:
    """The file or folder that a path or name means; None for the name of a registered data set, and for one that nobody knows."""
    from anyview.plugins import host

    if str(data) in {name for component in host().components("datasets") for name in (component.name, component.full_name)}:
        return None
    path = Path(data).expanduser()
    for place in (path, data_root() / path, data_root() / "recommenders" / path):
        for ending in ("", *SUFFIXES):
            if (found := place.with_name(place.name + ending)).exists():
                return found
    if len(path.parts) > 1 or path.suffix:
        raise UserError(f"there is no file or folder {str(data)!r}, here or under the data root {str(data_root())!r}; check the path")
    return None


def _named(name: str, options: dict[str, Any]) -> Source:
    from anyview.plugins import host

    load = host().find("datasets", name, prefer="recommenders").load()
    if not load.__module__.startswith("anyview_recommenders"):
        raise UserError(f"the data set {name!r} is no log of interactions; `anyview list datasets recommenders` shows those that are")
    source: Source = load(**options)
    return source


def _filtered(log: Interactions, how: Preparation, name: str) -> Interactions:
    """The interactions with a rating that is high enough, and of the behaviour that is asked for."""
    if how.behaviour not in (None, "all") and how.target is not None:
        raise UserError(f"the behaviour {how.behaviour!r} alone and the target {how.target!r} were asked for; leave one of them out")
    if how.min_rating is not None:
        if log.rating is None:
            raise UserError(f"ratings of at least {how.min_rating:g} were asked for, and {name!r} has none; leave min_rating out")
        log = log.select(log.rating >= how.min_rating)
    if how.behaviour in (None, "all"):
        return log
    if log.behaviour is not None:
        return of_behaviour(log, how.behaviour, name)
    raise UserError(f"the behaviour {how.behaviour!r} was asked for, and {name!r} has no column of behaviours; leave it out")


def _trust(raw: Raw, user_ids: np.ndarray, how: Preparation) -> tuple[csr_matrix | None, dict[str, str]]:
    """Who trusts whom, where that is asked for and there, and what was left out."""
    given = raw.trust if isinstance(how.trust, str) and how.trust == "own" else how.trust
    return (None, {}) if given is None else trust_matrix(read_trust(given), user_ids, mutual=how.mutual)


def _knowledge(raw: Raw, item_ids: np.ndarray, how: Preparation, log_path: Path | None) -> tuple[KnowledgeGraph | None, dict[str, str]]:
    """What is known of items, where that is asked for and there, and what was left out."""
    own = isinstance(how.knowledge, str) and how.knowledge == "own"
    given = raw.knowledge() if own and raw.knowledge is not None else None if own else how.knowledge
    if given is not None:
        return knowledge_graph(read_knowledge(given, how.link, log_path), item_ids)
    if how.link is not None:
        raise UserError("a table of items and entities was given, and there is no knowledge; name it with --reading.knowledge FILE")
    return None, {}
