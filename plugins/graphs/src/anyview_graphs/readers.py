"""Readers of graph files; nothing that a file holds is executed.

Planetoid: Yang, Cohen, Salakhutdinov, Revisiting Semi-Supervised Learning with Graph Embeddings, 2016, arXiv 1603.08861.
"""

from __future__ import annotations

import csv
import importlib
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from anyview.data.arrays import is_number
from anyview.errors import UserError

PLANETOID_PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")

KEYS = {
    "edge_index": ("edge_index", "edges"),
    "x": ("x", "node_features", "features"),
    "y": ("y", "node_labels", "labels"),
    "train": ("train_mask", "train_masks"),
    "validation": ("val_mask", "val_masks", "validation_mask"),
    "test": ("test_mask", "test_masks"),
}
"""What arrays may be called; the first name is ours."""


@dataclass(slots=True)
class Raw:
    """What a file holds: edge_index (2, E), x (N, F), labels (N,), masks three times (S, N), ids of the nodes, facts worth telling."""

    edge_index: Tensor
    x: Tensor
    labels: Tensor | None = None
    masks: tuple[Tensor, Tensor, Tensor] | None = None
    ids: Sequence[Any] | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def check(raw: Raw, name: str) -> None:
    """Raise UserError, in one sentence, for what cannot be a graph with features."""
    nodes, edges = raw.x.shape[0], raw.edge_index
    if raw.x.ndim != 2 or not raw.x.numel():
        raise UserError(f"{name!r} has features of shape {tuple(raw.x.shape)}; give one row of at least one feature per node, (N, F)")
    if edges.numel() and not (int(edges.min()) >= 0 and int(edges.max()) < nodes):
        ends = f"{int(edges.min())} to {int(edges.max())}"
        raise UserError(f"{name!r} has edges between nodes {ends}, and {nodes} rows of features; number nodes 0 to {nodes - 1}")
    if not (edges[0] != edges[1]).any():
        raise UserError(f"{name!r} has no edge between two different nodes; a graph method needs some, or use features without a graph")
    if bad := int((~raw.x.isfinite()).sum()):
        raise UserError(f"{name!r} has {bad} features that are NaN or infinite; replace them before training")
    if raw.labels is not None and raw.labels.ndim not in (1, 2):
        raise UserError(f"{name!r} has labels of shape {tuple(raw.labels.shape)}; give (N,) classes or (N, L) yes/no answers")
    if raw.labels is not None and raw.labels.shape[0] != nodes:
        raise UserError(f"{name!r} has {raw.labels.shape[0]} labels for {nodes} nodes; give one per node or none")
    if raw.masks is not None and any(mask.shape[1] != nodes for mask in raw.masks):
        raise UserError(f"{name!r} has split masks of shape {tuple(raw.masks[0].shape)} for {nodes} nodes; give (N,) or (S, N)")
    if raw.masks is not None and len({len(mask) for mask in raw.masks}) != 1:
        raise UserError(f"{name!r} has {[len(mask) for mask in raw.masks]} masks for train, validation and test; give equally many of each")
    if raw.masks is not None and (shared := int((torch.stack([mask.int() for mask in raw.masks]).sum(0) > 1).sum())):
        raise UserError(f"{name!r} has {shared} nodes in more than one part of its split; make train, validation and test disjoint")


def read_npz(path: Path) -> Raw:
    """A graph from an .npz file: edge_index (2, E) or (E, 2), x (N, F); if known y (N,), train_mask, val_mask, test_mask (N,) or (S, N)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{str(path)!r} cannot be read as plain arrays ({error}); save it with numpy.savez and without objects") from error
    return from_arrays(arrays, str(path))


def read_pt(path: Path) -> Raw:
    """A graph from a .pt file: a saved PyG Data or a dictionary of tensors, read without executing anything."""
    from torch_geometric.data import Data
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    try:
        with torch.serialization.safe_globals([Data, DataEdgeAttr, DataTensorAttr, GlobalStorage]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, AttributeError, ValueError, TypeError, struct.error) as error:
        raise UserError(
            f"{str(path)!r} holds more than a PyG Data or tensors, or is damaged; save the Data object itself with torch.save"
        ) from error
    return from_arrays(loaded, str(path)) if isinstance(loaded, Mapping) else from_pyg(loaded, str(path))


def from_pyg(data: Any, name: str) -> Raw:
    """A graph from a PyG Data object."""
    if not hasattr(data, "to_dict"):
        raise UserError(f"{name} is a {type(data).__name__}, not a graph; give a torch_geometric Data with edge_index and x")
    return from_arrays(data.to_dict(), name)


def from_arrays(arrays: Mapping[str, Any], name: str) -> Raw:
    """A graph from named arrays or tensors, under the names in KEYS."""

    def find(key: str) -> Tensor | None:
        return next((_tensor(arrays[word], word, name) for word in KEYS[key] if arrays.get(word) is not None), None)

    edges, x = find("edge_index"), find("x")
    if edges is None or x is None:
        lacks, key = ("edges", "edge_index") if edges is None else ("features", "x")
        raise UserError(f"{name} has no {lacks}: there is {', '.join(sorted(map(str, arrays))) or 'nothing'}; add an array {key!r}")
    if x.ndim != 2 or x.is_complex():
        raise UserError(f"{name} has features of shape {tuple(x.shape)}, {x.dtype}; give real numbers of shape (N, F)")
    masks = _masks({part: find(part) for part in ("train", "validation", "test")}, x.shape[0], name)
    return Raw(_two_rows(edges, name, pairs=arrays.get("edge_index") is None), x.float(), _classes(find("y"), name), masks)


def read_csv(edges: Path, features: Path) -> Raw:
    """A graph from two comma-separated files.

    features: a header, then one line per node; a column `id` names the nodes (else their line numbers from 0 do), a column `label` gives
    classes, all others are numbers. edges: two columns with the ends of each edge; a header is optional.
    """
    for path in (edges, features):
        if not path.is_file():
            raise UserError(f"there is no file {str(path)!r}; give two existing files as edges.csv,features.csv")
    header, *lines = _lines(features)
    _check_header([word.strip().lower() for word in header], features)
    columns = {name.strip().lower(): [line[place] for line in lines] for place, name in enumerate(header)}
    ids, labels = columns.pop("id", None), columns.pop("label", None)
    try:
        x = np.array(list(columns.values()), dtype=np.float32).T
    except ValueError as error:
        raise UserError(
            f"{str(features)!r} has a cell that is no number ({error}); only columns named id and label may hold words"
        ) from error
    ends = _ends(edges, ids or [str(row) for row in range(len(lines))], features)
    return Raw(torch.tensor(ends).t(), torch.from_numpy(np.ascontiguousarray(x)), _named_classes(labels, features), ids=ids)


def read_digits() -> Raw:
    """The 1,797 handwritten digits of scikit-learn, each joined to its ten nearest neighbours; 64 grey values in [0, 1], 10 classes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return _neighbours(digits.data / 16.0, digits.target)


def read_wine() -> Raw:
    """The 178 wines of scikit-learn, each joined to its ten nearest neighbours; 13 standardised measurements, 3 classes."""
    from sklearn.datasets import load_wine

    wine = load_wine()
    return _neighbours((wine.data - wine.data.mean(0)) / wine.data.std(0), wine.target)


def _neighbours(rows: np.ndarray, classes: np.ndarray) -> Raw:
    """Rows (N, F), each joined to its ten nearest neighbours."""
    from sklearn.neighbors import kneighbors_graph

    near = kneighbors_graph(rows, n_neighbors=10).tocoo()
    index = torch.from_numpy(np.stack((near.row, near.col)).astype(np.int64))
    x = torch.from_numpy(rows.astype(np.float32))
    return Raw(index, x, torch.from_numpy(classes.astype(np.int64)), notes={"graph": "10 nearest neighbours, either way"})


def read_planetoid(folder: Path, name: str) -> Raw:
    """Cora, Citeseer or PubMed from the eight raw files, rows divided by their sums, the public split; nodes that the files leave out
    (15 of Citeseer) have empty features."""
    parts = {part: read_plain_pickle(folder / f"ind.{name}.{part}") for part in PLANETOID_PARTS[:-1]}
    test = np.loadtxt(folder / f"ind.{name}.test.index", dtype=np.int64)
    known, nodes = parts["allx"].shape[0], int(test.max()) + 1
    x, one_hot = np.zeros((nodes, parts["x"].shape[1]), np.float32), np.zeros((nodes, parts["y"].shape[1]))
    x[:known], one_hot[:known] = parts["allx"].toarray(), parts["ally"]
    x[test], one_hot[test] = parts["tx"].toarray(), parts["ty"]
    pairs = [(source, end) for source, ends in parts["graph"].items() for end in ends]
    train = parts["x"].shape[0]
    masks = (_mask(np.arange(train), nodes), _mask(np.arange(train, min(train + 500, known)), nodes), _mask(test, nodes))
    labels = torch.from_numpy(one_hot.argmax(1))
    return Raw(
        torch.tensor(pairs).t(),
        _rows_sum_to_one(torch.from_numpy(x)),
        labels,
        masks,
        notes={"features prepared": "rows divided by their sum"},
    )


def standardised(raw: Raw) -> Raw:
    """The same graph with every feature shifted and scaled to mean 0 and variance 1 over all nodes."""
    deviation, mean = torch.std_mean(raw.x, 0, correction=0)
    x = (raw.x - mean) / torch.where(deviation > 0, deviation, 1.0)
    return replace(raw, x=x, notes={**raw.notes, "features prepared": "mean 0, variance 1 over all nodes"})


def read_plain_pickle(path: Path) -> Any:
    """A Python-2 pickle of arrays, sparse matrices and dictionaries; raises UserError when it asks for anything else."""
    with path.open("rb") as stream:
        return _PlainUnpickler(stream, encoding="latin1").load()


class _PlainUnpickler(pickle.Unpickler):
    """Knows the few names that Planetoid's files need, under the modules of old and new releases."""

    plain: ClassVar = {
        "csr_matrix": "scipy.sparse",
        "ndarray": "numpy",
        "dtype": "numpy",
        "_reconstruct": "numpy._core.multiarray" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core.multiarray",
        "defaultdict": "collections",
        "list": "builtins",
        "encode": "_codecs",
    }
    roots = ("scipy", "numpy", "collections", "builtins", "__builtin__", "_codecs")

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if name not in self.plain or module.split(".")[0] not in self.roots:
            raise UserError(f"a data file asks for {module}.{name}, which arrays do not need; take the files from their original source")
        found: Callable[..., Any] = getattr(importlib.import_module(self.plain[name]), name)
        return found


def _two_rows(index: Tensor, name: str, *, pairs: bool) -> Tensor:
    """(2, E) from (2, E) or (E, 2); with two edges, `pairs` says which."""
    if index.ndim != 2 or 2 not in index.shape or index.is_floating_point() or index.dtype == torch.bool:
        raise UserError(f"{name} has edges of shape {tuple(index.shape)}, {index.dtype}; give whole numbers of shape (2, E) or (E, 2)")
    turned = index.shape[0] != 2 or (pairs and index.shape[1] == 2)
    return (index.t() if turned else index).long()


def _tensor(value: Any, word: str, name: str) -> Tensor:
    """An array of numbers as a dense tensor."""
    try:
        native = value.astype(value.dtype.newbyteorder("=")) if isinstance(value, np.ndarray) else value
        tensor = torch.as_tensor(native)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} has {word!r} that is no array of numbers ({error}); give numbers") from error
    return tensor.to_dense() if tensor.layout != torch.strided else tensor


def _masks(found: Mapping[str, Tensor | None], nodes: int, name: str) -> tuple[Tensor, Tensor, Tensor] | None:
    """The three masks, each (S, N), or None where there is none; raises UserError for some of them, or for what is no mask."""
    given = {part: mask for part, mask in found.items() if mask is not None}
    if not given:
        return None
    if len(given) < len(found):
        raise UserError(f"{name} has masks for {', '.join(given)} only; give train_mask, val_mask and test_mask, or none")
    for part, mask in given.items():
        if mask.ndim not in (1, 2) or not ((mask == 0) | (mask == 1)).all():
            raise UserError(f"{name} has a {part} mask that is no mask; give True or False for every node, (N,) or (S, N)")
    train, validation, test = (_as_rows(mask, nodes) for mask in given.values())
    return train, validation, test


def _as_rows(mask: Tensor, nodes: int) -> Tensor:
    """(S, N) bool from (N,), (S, N) or (N, S)."""
    mask = mask.bool() if mask.ndim == 2 else mask.bool().unsqueeze(0)
    return mask.t() if mask.shape[1] != nodes and mask.shape[0] == nodes else mask


def _classes(labels: Tensor | None, name: str) -> Tensor | None:
    """(N,) int64 classes, or (N, L) yes/no answers as they are."""
    if labels is None:
        return None
    if labels.is_floating_point() and not (labels == labels.round()).all():
        raise UserError(f"{name} has labels that are no whole numbers; give classes 0, 1, 2, ... (-1 = unlabelled)")
    labels = labels.squeeze(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    return labels.long() if labels.ndim == 1 else labels


def _named_classes(words: list[str] | None, path: Path) -> Tensor | None:
    """Classes in the order of their names."""
    if words is None:
        return None
    if empty := sum(not word.strip() for word in words):
        raise UserError(f"{str(path)!r} leaves {empty} labels empty; give every node one, or leave the column out")
    return torch.from_numpy(np.unique(words, return_inverse=True)[1].astype(np.int64))


def _check_header(names: list[str], path: Path) -> None:
    if repeated := sorted({word or "(empty)" for word in names if names.count(word) > 1 or not word}):
        raise UserError(f"the header of {str(path)!r} has repeated or empty names ({', '.join(repeated)}); give every column its own")
    if all(is_number(word) for word in names):
        raise UserError(f"the first line of {str(path)!r} holds numbers only; give a header that names the columns")


def _lines(path: Path, *, least: int = 2) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = [line for line in csv.reader(stream) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{str(path)!r} cannot be read as comma-separated text in UTF-8 ({error}); save it so") from error
    if len(lines) < least:
        raise UserError(f"{str(path)!r} has {len(lines)} lines; give at least {least}")
    uneven = next((number for number, line in enumerate(lines, 1) if len(line) != len(lines[0])), None)
    if uneven:
        raise UserError(
            f"line {uneven} of {str(path)!r} has {len(lines[uneven - 1])} cells, the first has {len(lines[0])}; make them equal"
        )
    return lines


def _ends(path: Path, names: Sequence[str], features: Path) -> list[tuple[int, int]]:
    """Both ends of every edge as row numbers."""
    row = {name.strip(): place for place, name in enumerate(names)}
    if len(row) != len(names):
        raise UserError(f"{str(features)!r} has {len(names) - len(row)} repeated ids; give every node its own")
    lines = _lines(path, least=1)
    if len(lines[0]) < 2:
        raise UserError(f"{str(path)!r} has one column; give two, both ends of an edge")
    start = 0 if any(cell.strip() in row or is_number(cell) for cell in lines[0][:2]) else 1
    if start == len(lines):
        raise UserError(f"{str(path)!r} has a header and no edges; give one line per edge")
    ends = []
    for number, (source, target) in enumerate(((line[0].strip(), line[1].strip()) for line in lines[start:]), start + 1):
        if source not in row or target not in row:
            missing = source if source not in row else target
            raise UserError(f"line {number} of {str(path)!r} names node {missing!r}, which {str(features)!r} does not have; add it there")
        ends.append((row[source], row[target]))
    return ends


def _mask(rows: np.ndarray, nodes: int) -> Tensor:
    mask = torch.zeros(1, nodes, dtype=torch.bool)
    mask[0, torch.from_numpy(rows)] = True
    return mask


def _rows_sum_to_one(x: Tensor) -> Tensor:
    """Rows divided by their sums; rows of zeros stay."""
    total = x.sum(1, keepdim=True)
    return x / torch.where(total == 0, 1.0, total)
