from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from torch_geometric.data import Data

from anyview.data.source import Epoch, Outline
from anyview.errors import UserError
from anyview_graphs.datasets import GraphSource, digits, open_graph


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """A path of five nodes, one isolated node, features, classes."""
    edges = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
    return {"edge_index": edges, "x": np.arange(18, dtype=np.float32).reshape(6, 3), "y": np.array([0, 0, 0, 1, 1, 1])}


def saved(folder: Path, arrays: dict[str, np.ndarray], **changes: np.ndarray | None) -> str:
    path = folder / "mine.npz"
    np.savez(path, **{name: value for name, value in {**arrays, **changes}.items() if value is not None})
    return str(path)


def pairs(source: GraphSource) -> set[tuple[int, int]]:
    return set(map(tuple, source.graph.edges.index.t().tolist()))


def test_cora_has_the_published_facts(cora: GraphSource) -> None:
    facts = cora.describe()
    assert (facts["nodes"], facts["edges"], facts["features"], facts["classes"]) == (2708, 10556, 1433, 7)
    assert facts["split"] == "140/500/1000 public"
    assert cora.labels.bincount().tolist() == [351, 217, 418, 818, 426, 298, 180]
    assert cora.graph.num_edges == 13_264
    assert cora.graph.x.values().numel() == 49_216
    np.testing.assert_allclose(cora.features().sum(1), 1.0, rtol=1e-5)
    split = cora.split(7)
    assert (len(split.train), len(split.validation), len(split.test), split.name) == (140, 500, 1000, "public")
    assert "warning" not in facts
    between = ~cora.graph.edges.loops
    same = cora.labels[cora.graph.edges.src] == cora.labels[cora.graph.edges.dst]
    assert abs(float(same[between].double().mean()) - 0.81) < 0.005


def test_coras_raw_files_and_plain_arrays_are_one_graph(cora: GraphSource, data_root: Path) -> None:
    plain = open_graph(next(path for path in data_root.rglob("cora.npz")))
    assert pairs(plain) == pairs(cora)
    assert torch.equal(plain.labels, cora.labels)
    assert np.array_equal(plain.features() > 0, cora.features() > 0)
    assert all(torch.equal(a, b) for a, b in zip(plain.masks, cora.masks, strict=True))


def test_one_graph_is_one_batch_and_one_step(cora: GraphSource) -> None:
    (batch,) = cora.batches(Epoch())
    assert (batch.rows, batch.total, cora.steps(16), len(cora)) == (2708, 2708, 1, 2708)
    assert batch.data is cora.graph
    assert not list(cora.batches(Epoch(skip=1)))
    (view,) = cora.clean()
    assert view.data is cora.graph
    assert view.mask is None
    assert not cora.divisible


def test_several_published_splits_are_chosen_by_seed(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    if not (data_root / "graphs" / "chameleon").is_dir():
        pytest.skip("chameleon is not under the data root")
    source = open_graph("chameleon")
    first, again, other = source.split(0), source.split(10), source.split(1)
    assert first.name == "public 1 of 10"
    assert torch.equal(first.train, again.train)
    assert not torch.equal(first.train, other.train)
    assert (len(first.train), len(first.validation), len(first.test)) == (1092, 729, 456)


def test_digits_need_no_file() -> None:
    source = open_graph("digits")
    assert (len(source), source.graph.num_features, len(source.labels.unique())) == (1797, 64, 10)
    assert float(source.graph.x.max()) == 1.0
    edges = source.graph.edges
    assert int(edges.loops.sum()) == 1797
    assert {(t, s) for s, t in pairs(source)} == pairs(source)
    assert int(edges.degrees.min()) >= 11
    split = source.split(3)
    assert abs(len(split.train) - 180) <= 10
    assert abs(len(split.test) - 1438) <= 15
    assert torch.equal(split.train, source.split(3).train)
    assert source.fingerprint() == open_graph("digits").fingerprint()


def test_wines_need_no_file_and_have_standardised_measurements() -> None:
    source = open_graph("graphs/wine")
    assert (len(source), source.graph.num_features, source.labels.bincount().tolist()) == (178, 13, [59, 71, 48])
    assert source.graph.x.mean(0).abs().max() < 1e-5
    assert torch.allclose(source.graph.x.std(0, correction=0), torch.ones(13), atol=1e-5)
    assert int(source.graph.edges.degrees.min()) >= 11


def test_own_arrays_are_read_both_ways_round(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    source = open_graph(saved(tmp_path, arrays))
    assert pairs(source) == {(0, 1), (1, 2), (2, 3), (3, 4), (1, 0), (2, 1), (3, 2), (4, 3)} | {(node, node) for node in range(6)}
    turned = open_graph(saved(tmp_path, arrays, edge_index=arrays["edge_index"].T))
    assert pairs(turned) == pairs(source)
    assert turned.fingerprint() == source.fingerprint()
    assert np.array_equal(source.features(), arrays["x"])
    assert source.name == "mine"


def test_isolated_nodes_are_told_and_kept(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    source = open_graph(saved(tmp_path, arrays))
    assert source.describe()["warning"] == "isolated nodes: 1, each sees only itself"
    assert source.graph.edges.lonely == 0


def test_own_masks_are_one_split_or_several(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    masks = np.eye(6, dtype=bool)[:3]
    one = open_graph(saved(tmp_path, arrays, train_mask=masks[0], val_mask=masks[1], test_mask=masks[2]))
    assert one.split(5).name == "given"
    assert one.split(5).test.tolist() == [2]
    columns = np.eye(6, dtype=bool)
    several = open_graph(saved(tmp_path, arrays, train_mask=columns[:, :2], val_mask=columns[:, 2:4], test_mask=columns[:, 4:]))
    assert several.split(1).name == "given 2 of 2"
    assert several.split(1).train.tolist() == [1]


def test_without_labels_there_is_no_split(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    source = open_graph(saved(tmp_path, arrays, y=None))
    assert source.labels is None
    with pytest.raises(UserError, match="has no labels"):
        source.split(0)


def test_saved_pyg_data(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    data = Data(**{name: torch.from_numpy(value) for name, value in arrays.items()})
    torch.save(data, tmp_path / "mine.pt")
    torch.save(data.to_dict(), tmp_path / "plain.pt")
    wanted = pairs(open_graph(saved(tmp_path, arrays)))
    for source in (open_graph(tmp_path / "mine.pt"), open_graph(str(tmp_path / "plain.pt")), open_graph(data)):
        assert pairs(source) == wanted
        assert source.labels.tolist() == arrays["y"].tolist()


def test_a_saved_object_is_refused_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"x": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match="holds more than a PyG Data"):
        open_graph(tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


def tables(folder: Path, edges: str, features: str) -> str:
    (folder / "edges.csv").write_text(edges)
    (folder / "features.csv").write_text(features)
    return f"{folder / 'edges.csv'},{folder / 'features.csv'}"


def test_files_are_known_by_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables(tmp_path, "from,to\nb,a\na,c\n", "id,first\na,1\nb,3\nc,5\n")
    monkeypatch.chdir(tmp_path)
    assert open_graph("edges.csv, features.csv").place == f"{tmp_path / 'edges.csv'},{tmp_path / 'features.csv'}"
    assert open_graph("digits").place is None


def test_tables_with_ids_and_labels(tmp_path: Path) -> None:
    source = open_graph(tables(tmp_path, "from,to\nb,a\na,c\n", "id,first,label,second\na,1,cat,2\nb,3,dog,4\nc,5,cat,6\n"))
    assert pairs(source) == {(0, 0), (1, 1), (2, 2), (0, 1), (1, 0), (0, 2), (2, 0)}
    assert source.ids == ["a", "b", "c"]
    assert source.labels.tolist() == [0, 1, 0]
    assert source.features().tolist() == [[1, 2], [3, 4], [5, 6]]


def test_tables_without_ids_or_header(tmp_path: Path) -> None:
    source = open_graph(tables(tmp_path, "0,1\n1,2\n", "first\n1\n2\n3\n"))
    assert pairs(source) >= {(0, 1), (1, 2)}
    assert source.ids is None
    assert source.labels is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "has no features"),
        ({"edge_index": None}, "has no edges"),
        ({"x": np.full((6, 3), np.nan)}, "18 features that are NaN"),
        ({"x": np.zeros(6)}, r"features of shape \(6,\)"),
        ({"edge_index": np.array([[0, 1], [1, 6]])}, "edges between nodes 0 to 6, and 6 rows"),
        ({"edge_index": np.array([[0, -1], [1, 2]])}, "edges between nodes -1 to 2"),
        ({"edge_index": np.zeros((2, 0), dtype=np.int64)}, "no edge between two different nodes"),
        ({"edge_index": np.array([[0, 1], [0, 1]])}, "no edge between two different nodes"),
        ({"edge_index": np.array([[0.0, 1.0], [1.0, 2.0]])}, "whole numbers"),
        ({"edge_index": np.zeros((3, 4), dtype=np.int64)}, "whole numbers"),
        ({"y": np.zeros(5, dtype=np.int64)}, "5 labels for 6 nodes"),
        ({"train_mask": np.ones(5, bool), "val_mask": np.ones(5, bool), "test_mask": np.ones(5, bool)}, "masks of shape"),
    ],
)
def test_what_is_no_graph_is_told_in_one_sentence(
    tmp_path: Path, arrays: dict[str, np.ndarray], changes: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        open_graph(saved(tmp_path, arrays, **changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("edges", "features", "message"),
    [
        ("from,to\n0,1\n1,9\n", "first\n1\n2\n", "line 3 of .* names node '9'"),
        ("from,to\n0,1\n", "first\n1\ntwo\n", "a cell that is no number"),
        ("from,to\n0,1\n", "first,label\n1,a\n2,\n", "leaves 1 labels empty"),
        ("from,to\na,b\n", "id,first\na,1\na,2\n", "repeated ids"),
        ("from,to\n0,1\n", "first,second\n1,2\n3\n", "line 3 of .* has 1 cells"),
        ("from,to\n", "first\n1\n", "has a header and no edges"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, edges: str, features: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_graph(tables(tmp_path, edges, features))


def test_files_with_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", x=np.array([{}, {}], dtype=object), edge_index=np.zeros((2, 1), int))
    with pytest.raises(UserError, match="cannot be read as plain arrays"):
        open_graph(tmp_path / "objects.npz")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("coraa", "did you mean 'cora'"),
        ("missing.npz", "there is no file 'missing.npz'"),
        ("a.csv,b.csv", "there is no file 'a.csv'"),
        ("some/folder", "is no .npz or .pt file"),
        ("cora", "put the Planetoid files ind.cora.x"),
        ("ogbn-arxiv", "write its arrays edge_index"),
    ],
)
def test_data_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, message: str) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    with pytest.raises(UserError, match=message):
        open_graph(data)


def test_a_source_is_returned_as_it_is() -> None:
    source = digits()
    assert open_graph(source) is source
    outline = Outline("digits", source.shape)
    assert open_graph(outline) is outline


def test_something_that_is_no_graph() -> None:
    with pytest.raises(UserError, match="is a list, not a graph"):
        open_graph([1, 2])


def write_planetoid(folder: Path) -> None:
    """Six nodes of Planetoid's layout in which node 4 is missing from the test index, as fifteen are in Citeseer."""
    folder.mkdir(parents=True)
    x = scipy.sparse.csr_matrix(np.array([[1.0, 1, 0], [0, 2, 0], [0, 0, 4]]))
    one_hot = np.eye(2)[[0, 1, 0]]
    graph = {0: [1, 1, 0], 1: [0, 2], 2: [1, 5], 3: [2], 4: [], 5: [2]}
    tests = scipy.sparse.csr_matrix(np.array([[3.0, 1, 0], [0, 0, 1]]))
    parts = {"x": x[:1], "y": one_hot[:1], "allx": x, "ally": one_hot, "tx": tests, "ty": np.eye(2)[[1, 1]], "graph": graph}
    for part, value in parts.items():
        (folder / f"ind.citeseer.{part}").write_bytes(pickle.dumps(value, protocol=2))
    (folder / "ind.citeseer.test.index").write_text("5\n3\n")


def test_planetoid_nodes_that_the_test_index_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    write_planetoid(tmp_path / "CiteSeer" / "raw")
    source = open_graph("citeseer")
    assert source.features().tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0], [0.75, 0.25, 0]]
    assert source.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert pairs(source) == {(node, node) for node in range(6)} | {(0, 1), (1, 0), (1, 2), (2, 1), (2, 5), (5, 2), (3, 2), (2, 3)}
    assert source.split(0).test.tolist() == [3, 5]
    assert source.describe()["warning"].startswith("isolated nodes: 1,")


def test_pickles_that_ask_for_more_than_arrays_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    write_planetoid(tmp_path / "citeseer" / "raw")
    (tmp_path / "citeseer" / "raw" / "ind.citeseer.graph").write_bytes(pickle.dumps(Path.touch, protocol=2))
    with pytest.raises(UserError, match="asks for"):
        open_graph("citeseer")


def test_large_sets_are_standardised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrays: dict[str, np.ndarray]) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    (tmp_path / "ogbn-arxiv").mkdir()
    np.savez(tmp_path / "ogbn-arxiv" / "ogbn-arxiv.npz", **arrays)
    x = open_graph("ogbn-arxiv").features()
    np.testing.assert_allclose(x.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(x.std(0), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"y": np.array([0.1, 0.9, 1.7, 0, 1, 2])}, "no whole numbers"),
        ({"train_mask": np.eye(6, dtype=bool)[0]}, "masks for train only"),
        ({part: np.arange(6) for part in ("train_mask", "val_mask", "test_mask")}, "is no mask"),
        ({part: np.eye(6, dtype=bool)[0] for part in ("train_mask", "val_mask", "test_mask")}, "more than one part of its split"),
        ({"x": np.array(["a"] * 6)}, "no array of numbers"),
        ({"x": np.float32(3)}, "of shape"),
    ],
)
def test_labels_and_masks_that_mean_something_else(
    tmp_path: Path, arrays: dict[str, np.ndarray], changes: dict[str, np.ndarray], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        open_graph(saved(tmp_path, arrays, **changes))


@pytest.mark.parametrize(("name", "content"), [("a.npz", b""), ("b.npz", b"PK no zip"), ("c.pt", b"text"), ("d.pt", b"")])
def test_damaged_files_are_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        open_graph(str(tmp_path / name))


@pytest.mark.parametrize(
    ("features", "sentence"),
    [("1,2\n3,4\n", "holds numbers only"), ("f,f\n1,2\n3,4\n", "repeated or empty"), ("f,\n1,2\n3,4\n", "repeated or empty")],
)
def test_headers_that_would_lose_columns(tmp_path: Path, features: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        open_graph(tables(tmp_path, "0,1\n", features))


def test_names_of_inductive_sets_are_refused() -> None:
    for name in ("ppi", "reddit"):
        with pytest.raises(UserError, match="cannot read yet"):
            open_graph(name)


def test_full_names_are_names() -> None:
    assert open_graph("graphs/digits").name == "digits"
