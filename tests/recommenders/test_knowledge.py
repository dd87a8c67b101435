"""Knowledge beside a log: triples in every layout, linked to items by their ids or a table, and every mistake in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anyview.data.source import Outline
from anyview.errors import UserError
from anyview_recommenders.beside import knowledge_of
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.generated_knowledge import generate_with_knowledge
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.knowledge import Knowledge, KnowledgeGraph, Links, knowledge_graph, read_knowledge
from anyview_recommenders.source import InteractionSource

LOG = Interactions.from_ids([1, 1, 2, 2, 3, 3] * 2, [5, 6, 5, 7, 6, 7, 8, 9, 9, 8, 8, 5])
STRANGE = [("007", "is a", "a, b"), ("Zoë", "is a", " 7"), ("NA", "likes", "007")]


def opened(**options: Any) -> InteractionSource:
    source = open_interactions(LOG, **{"split": "leave_one_out", **options})
    assert isinstance(source, InteractionSource)
    return source


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def said(knowledge: Knowledge) -> list[tuple[Any, Any, Any]]:
    heads, tails = (knowledge.entity_ids[part].tolist() for part in (knowledge.head, knowledge.tail))
    return list(zip(heads, knowledge.relation_ids[knowledge.relation].tolist(), tails, strict=True))


def triples(graph: KnowledgeGraph) -> list[tuple[int, str, int]]:
    names = graph.relations[graph.relation].tolist()
    return list(zip(graph.head.tolist(), names, graph.tail.tolist(), strict=True))


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "txt"])
def test_strange_ids_come_back_exactly(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame(STRANGE, columns=["Subject", "predicate", "object"])[["object", "Subject", "predicate"]]
    path = tmp_path / f"graph.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "txt":
        write(path, "".join("\t".join(triple) + "\n" for triple in STRANGE))
    else:
        frame.to_csv(path, index=False, sep="," if ending == "csv" else "\t")
    assert said(read_knowledge(path)) == STRANGE == said(read_knowledge(frame))


def test_three_columns_of_any_name_are_head_relation_and_tail(tmp_path: Path) -> None:
    assert said(read_knowledge(write(tmp_path / "g.csv", "film,what,value\n10,genre,war\n7,genre,war\n"))) == [
        ("10", "genre", "war"),
        ("7", "genre", "war"),
    ]
    assert said(read_knowledge(write(tmp_path / "g.txt", "10 0 12\n7 1 12\n"))) == [(10, 0, 12), (7, 1, 12)]


def test_recbole_and_sslrec_folders_bring_their_graph(tmp_path: Path) -> None:
    for name in ("atomic", "first"):
        (tmp_path / name).mkdir()
    write(tmp_path / "atomic" / "x.inter", "user_id:token\titem_id:token\n1\t5\n1\t6\n1\t7\n2\t5\n2\t6\n2\t7\n")
    write(tmp_path / "atomic" / "x.kg", "head_id:token\trelation_id:token\ttail_id:token\nm.5\tfilm.genre\tm.war\nm.6\tfilm.genre\tm.war\n")
    write(tmp_path / "atomic" / "x.link", "item_id:token\tentity_id:token\n6\tm.6\n5\tm.5\n99\tm.99\n")
    for place in ("atomic", "atomic/x.inter"):
        source = open_interactions(tmp_path / place, knowledge="own", split="leave_one_out")
        assert triples(knowledge_of(source)) == [(0, "film.genre", 3), (1, "film.genre", 3)]
    write(tmp_path / "first" / "train.txt", "0 0 1 2 1\n1 2 0 1\n")
    write(tmp_path / "first" / "test.txt", "0 3\n1 3\n")
    write(tmp_path / "first" / "kg_final.txt", "0 0 5\n3 1 5\n5 1 6\n")
    source = open_interactions(tmp_path / "first", knowledge="own")
    positions = {item: place for place, item in enumerate(source.parts.train.item_ids.tolist())}  # type: ignore[attr-defined]
    assert triples(knowledge_of(source)) == [(positions[0], "0", 4), (positions[3], "1", 4), (4, "1", 5)]


def test_films_say_their_genres_years_and_tags(tmp_path: Path) -> None:
    write(tmp_path / "movies.csv", "movieId,title,genres\n1,A (1995),War|Noir\n2,B,(no genres listed)\n1995,C (1995),War\n")
    write(tmp_path / "tags.csv", "userId,movieId,tag,timestamp\n9,2,Dark ,1\n")
    write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},1,{i}\n" for u in (1, 2) for i in (1, 2, 1995)))
    source = open_interactions(tmp_path, knowledge="own", split="leave_one_out")
    told = [(head, relation) for head, relation, _ in triples(knowledge_of(source))]
    assert told == [(0, "genre"), (0, "genre"), (2, "genre"), (0, "year"), (2, "year"), (1, "tag")]
    assert "6 triples of 3 relations, 4 entities beside the items; 3 of 3 items have some" in source.describe()["knowledge"]


def test_the_real_films_are_linked_by_their_ids(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    graph = knowledge_of(open_interactions("ml-latest-small", knowledge="own"))
    assert sorted(graph.relations.tolist()) == ["genre", "tag", "year"]
    assert np.isin(np.arange(graph.items), graph.head).mean() > 0.99


def test_an_entity_may_be_several_items_and_repeated_triples_are_told() -> None:
    knowledge = Knowledge.from_ids(["e", "e", "f"], ["genre", "genre", "near"], ["war", "war", "e"])
    linked = Knowledge(**{**vars(knowledge), "links": Links(np.array([7, 5, 1]), np.array(["e", "e", "f"], dtype=object))})
    graph, told = knowledge_graph(linked, np.array([5, 6, 7]))
    assert sorted(triples(graph)) == [(0, "genre", 4), (2, "genre", 4), (3, "near", 0), (3, "near", 2)]
    assert told == {"left out of knowledge": "2 repeated"}


def test_a_table_links_items_and_what_nothing_reaches_stays() -> None:
    knowledge = Knowledge.from_ids(["a", "far"], ["is", "is"], ["b", "away"])
    source = opened(knowledge=knowledge, link=pd.DataFrame({"item": [5], "same as": ["b"]}))
    assert triples(knowledge_of(source)) == [(5, "is", 0), (6, "is", 7)]


def test_a_run_keeps_knowledge_and_new_items_have_theirs() -> None:
    knowledge = Knowledge.from_ids(["5", "99"], ["genre", "genre"], ["war", "war"])
    table = pd.DataFrame({"item": [5, 6, 99], "colour": ["red", "red", "blue"]})
    asked = {"item_features": table, "new_items": True}
    source = opened(knowledge=knowledge, **asked)
    graph = knowledge_of(Outline("x", source.shape, source.keeps()))
    assert (graph.items, graph.entities, triples(graph)) == (6, 7, [(0, "genre", 6), (5, "genre", 6)])
    assert source.fingerprint() != opened(**asked).fingerprint()
    with pytest.raises(UserError, match="has no knowledge of its items beside it"):
        knowledge_of(opened(knowledge="own"))


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("g.txt", "5 genre war\n6 genre\n", r"line 2 has 2 fields with space between, and 3 were expected: head, relation, tail"),
        ("g.txt", "5\tgenre\twar\n6\t\twar\n", r"line 2 has no relation, and one was expected"),
        ("g.csv", "head,relation\n5,genre\n", r"has the columns 'head', 'relation', and knowledge needs three"),
        ("g.csv", "a,b,c,d\n5,genre,war,1\n", r"has the columns 'a', 'b', 'c', 'd', and knowledge needs three"),
        ("g.csv", "head,relation,tail\n5,genre,war\n6,genre,\n", r"has nothing in the column 'tail' in 1 of 2 rows, the first is row 2"),
        ("g.csv", "head,relation,tail\n5,genre\n", r"has nothing in the column 'tail'"),
        ("g.csv", "head,relation,tail\n5,genre,war,x\n6,genre,war,x,y\n", r"cannot be read: .*line 3"),
        ("g.csv", "head,relation,tail\n", r"holds no triples"),
        (
            "g.csv",
            "head,relation,tail\nm.1,genre,war\n",
            r"none of 1 triples has an item of the log, such as 5, 6; .* such as 'm.1', 'war'",
        ),
        ("g.kg", "head_id:token\trelation_id\ttail_id:token\n", r"has the field 'relation_id', and name:type"),
        ("g.json", "{}", r"no separator is in each of its lines"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as raised:
        opened(knowledge=str(write(tmp_path / name, text)))
    assert "\n" not in str(raised.value)


def test_what_is_given_otherwise_is_told() -> None:
    with pytest.raises(UserError, match=r"there is no file of knowledge 'nowhere\.csv'"):
        opened(knowledge="nowhere.csv")
    with pytest.raises(UserError, match="the table of knowledge is of type int"):
        opened(knowledge=3)
    with pytest.raises(UserError, match=r"a table of items and entities was given, and there is no knowledge"):
        opened(link=pd.DataFrame({"item": [5], "entity": ["b"]}))
    graph = pd.DataFrame({"head": [5], "relation": ["is"], "tail": [6]})
    with pytest.raises(UserError, match="two rows for the item 5"):
        opened(knowledge=graph, link=pd.DataFrame({"item": [5, 5], "entity": ["a", "b"]}))
    with pytest.raises(UserError, match="and a column of entities was expected"):
        opened(knowledge=graph, link=pd.DataFrame({"item": [5], "a": ["a"], "b": ["b"]}))
    with pytest.raises(UserError, match="mixes strings and integers as ids"):
        opened(knowledge=pd.DataFrame({"head": [5, "x"], "relation": ["is", "is"], "tail": [6, 6]}))


def test_generated_triples_say_who_likes_what() -> None:
    log, knowledge = generate_with_knowledge(200, 150)
    graph, _ = knowledge_graph(knowledge, log.item_ids)
    by_relation = {name: graph.relation == number for number, name in enumerate(graph.relations.tolist())}

    def agree(name: str) -> float:
        """How often two items of one user have the same tail, over how often two of any do."""
        tails = np.empty(graph.entities, dtype=np.int64)
        tails[graph.head[by_relation[name]]] = graph.tail[by_relation[name]]
        own, any_two = tails[log.item], tails[log.item[np.random.default_rng(0).permutation(len(log))]]
        same = log.user[1:] == log.user[:-1]
        return float((own[1:] == own[:-1])[same].mean() / (any_two[1:] == any_two[:-1]).mean())

    assert agree("made_by") > 3
    assert agree("sold_in") < 1.3
