"""Graph data sets: one graph as a source, found by name under the data root or read from the user's own file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyview.data.roots import data_root, place_of
from anyview.data.source import Batch, Epoch, Source, fingerprint
from anyview.data.splits import Split, stratified_split
from anyview.errors import UserError, unknown
from anyview.views.view import View
from anyview_graphs import readers
from anyview_graphs.graph import Graph, add_self_loops
from anyview_graphs.readers import Raw

SHARES = (0.1, 0.1, 0.8)
"""Train, validation and test where nothing is published: few labels, as in the published splits."""


class GraphSource(Source):
    """One graph: one batch, one step per epoch, N rows.

    graph: with exactly one self-loop per node. labels: (N,) classes or None. masks: train, validation and test, each (S, N) bool, one row
    per published split. split_name: what a single published split is called. notes: further facts for `describe`.
    """

    divisible = False

    def __init__(
        self,
        name: str,
        graph: Graph,
        *,
        labels: Tensor | None = None,
        masks: tuple[Tensor, Tensor, Tensor] | None = None,
        ids: Sequence[Any] | None = None,
        split_name: str = "public",
        notes: dict[str, Any] | None = None,
    ) -> None:
        self.name, self.graph, self.labels, self.masks, self.ids = name, graph, labels, masks, ids
        self.split_name, self.notes = split_name, notes or {}
        self.shape = {"features": graph.num_features}

    def __len__(self) -> int:
        return self.graph.num_nodes

    def steps(self, batch_size: int | None) -> int:
        return 1

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        if epoch.skip == 0:
            yield Batch(self.graph, rows=len(self), total=len(self), index=torch.arange(len(self)))

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        return [View(self.graph, role="clean", index=torch.arange(len(self)))]

    def features(self) -> np.ndarray:
        return self.graph.features().numpy()

    def fingerprint(self) -> str:
        x, edges = self.graph.x, self.graph.edges
        parts = (x.crow_indices(), x.col_indices(), x.values()) if x.is_sparse_csr else (x,)
        return fingerprint(edges.src, edges.dst, *parts, self.labels)

    def split(self, seed: int) -> Split:
        """The published split; of several, number seed modulo how many; else 10/10/80 % of every class, drawn with the seed."""
        if self.masks is not None:
            count = len(self.masks[0])
            number = seed % count
            name = self.split_name if count == 1 else f"{self.split_name} {number + 1} of {count}"
            train, validation, test = (mask[number] for mask in self.masks)
            return Split.from_masks(train, validation, test, name=name)
        if self.labels is None:
            return super().split(seed)
        return stratified_split(self.labels, seed, shares=SHARES)

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"name": self.name, "nodes": len(self), "edges": self._between(), "features": self.graph.num_features}
        if self.labels is not None:
            facts["classes"] = len(self.labels.unique()) if self.labels.ndim == 1 else self.labels.shape[1]
        if self.masks is not None:
            sizes = "/".join(str(int(mask[0].sum())) for mask in self.masks)
            facts["split"] = f"{sizes} {self.split_name}" + (f", {len(self.masks[0])} of them" if len(self.masks[0]) > 1 else "")
        elif self.labels is not None:
            facts["split"] = "10/10/80 % of every class, drawn by seed"
        if isolated := self._isolated():
            facts["warning"] = f"isolated nodes: {isolated}, each sees only itself"
        return {**facts, **self.notes}

    def _between(self) -> int:
        """Directed edges between different nodes."""
        return self.graph.num_edges - int(self.graph.edges.loops.sum())

    def _isolated(self) -> int:
        edges = self.graph.edges
        ends = torch.cat((edges.src[~edges.loops], edges.dst[~edges.loops]))
        return len(self) - len(ends.unique())


def open_graph(data: str | Path | Source | Any) -> Source:
    """The graph that `data` names.

    A known name (cora, citeseer, pubmed, ogbn-arxiv, digits, wine); a name of a folder under the data root that holds NAME.npz or
    raw/NAME.npz; a path to an .npz file, to a .pt file with a saved PyG Data, or "edges.csv,features.csv"; a PyG Data itself; a source,
    returned as it is. All edges are taken in both directions, self-loops are removed and one is added to every node. Raises UserError when
    there is no such data, or what it holds is no graph with features.

    >>> open_graph("digits").describe()["nodes"]
    1797
    """
    if isinstance(data, Source):
        return data
    if not isinstance(data, str | Path):
        return as_source(readers.from_pyg(data, "the graph given"), "graph", split_name="given")
    text = str(data)
    if "," in text:
        edges, features = (Path(part.strip()) for part in text.split(",", 1))
        return _placed(as_source(readers.read_csv(edges, features), edges.stem, split_name="given"), text, edges, features)
    if Path(text).suffix in (".npz", ".pt"):
        return _placed(as_source(_read_file(Path(text)), Path(text).stem, split_name="given"), text, Path(text))
    return _by_name(text)


def _placed(source: GraphSource, data: str, *files: Path) -> GraphSource:
    source.place = place_of(data, *files)
    return source


def as_source(raw: Raw, name: str, *, split_name: str = "public") -> GraphSource:
    """A source from what a reader found, checked: edges between nodes that exist, finite features, labels and masks of the right length."""
    readers.check(raw, name)
    graph = add_self_loops(Graph.from_edges(raw.edge_index, raw.x, undirected=True))
    notes = {"prepared": "edges in both directions, one self-loop per node", **raw.notes}
    return GraphSource(name, graph, labels=raw.labels, masks=raw.masks, ids=raw.ids, split_name=split_name, notes=notes)


def _read_file(path: Path) -> Raw:
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}; give a path to an .npz or .pt file, or the name of a data set")
    return readers.read_npz(path) if path.suffix == ".npz" else readers.read_pt(path)


def _by_name(name: str) -> GraphSource:
    name = name.removeprefix("graphs/")
    if name.lower() in KNOWN:
        return KNOWN[name.lower()]()
    if name.lower() in INDUCTIVE:
        raise UserError(f"{name} is learned from its training graphs alone, which anyview cannot read yet; choose another data set")
    folder = find_folder(name)
    for path in (folder / f"{name}.npz", folder / "raw" / f"{name}.npz") if folder else ():
        if path.is_file():
            return as_source(readers.read_npz(path), name)
    if Path(name).exists() or "/" in name or "." in name:
        raise UserError(f"{name!r} is no .npz or .pt file; give one of those, or an edge list with features as edges.csv,features.csv")
    raise unknown("graph data set", name, KNOWN, look="anyview list datasets")


def find_folder(name: str) -> Path | None:
    """The folder of a data set under the data root or its folder "graphs", whatever its case; None when there is none."""
    for base in (data_root() / "graphs", data_root()):
        for child in sorted(base.iterdir()) if base.is_dir() else ():
            if child.is_dir() and child.name.lower() == name.lower():
                return child
    return None


def cora() -> GraphSource:
    """Cora: 2,708 papers, 10,556 citations, 1,433 words, 7 fields; public split 140/500/1000."""
    return as_source(_planetoid("cora"), "cora")


def citeseer() -> GraphSource:
    """Citeseer: 3,327 papers, 9,104 citations, 3,703 words, 6 fields; 48 isolated nodes, 15 without features; public split 120/500/1000."""
    return as_source(_planetoid("citeseer"), "citeseer")


def pubmed() -> GraphSource:
    """PubMed: 19,717 papers, 500 weighted words, 3 classes; public split 60/500/1000."""
    return as_source(_planetoid("pubmed"), "pubmed")


def ogbn_arxiv() -> GraphSource:
    """ogbn-arxiv from a plain .npz under the data root, features standardised over all nodes."""
    name = "ogbn-arxiv"
    folder = find_folder(name)
    if folder is None or not (folder / f"{name}.npz").is_file():
        place = data_root() / "graphs" / name / f"{name}.npz"
        keys = "edge_index (2, E), x (N, 128), y (N,), train_mask, val_mask and test_mask (N,)"
        raise UserError(f"the data set {name!r} is not under {str(data_root())!r}; write its arrays {keys} to {str(place)!r}")
    return as_source(readers.standardised(readers.read_npz(folder / f"{name}.npz")), name)


def digits() -> GraphSource:
    """scikit-learn's 1,797 handwritten digits as a graph of ten nearest neighbours: 64 grey values, 10 classes; needs no file."""
    return as_source(readers.read_digits(), "digits")


def wine() -> GraphSource:
    """scikit-learn's 178 wines as a graph of ten nearest neighbours: 13 measurements, 3 classes; needs no file."""
    return as_source(readers.read_wine(), "wine")


KNOWN: dict[str, Callable[[], GraphSource]] = {
    "cora": cora,
    "citeseer": citeseer,
    "pubmed": pubmed,
    "ogbn-arxiv": ogbn_arxiv,
    "digits": digits,
    "wine": wine,
}
"""Data sets that are prepared as published, by name."""

INDUCTIVE = ("ppi", "reddit")
"""Published with presets for GraphMAE, but pre-trained on training graphs alone: read as one graph they would give other figures."""


def _planetoid(name: str) -> Raw:
    folder = find_folder(name)
    files = [f"ind.{name}.{part}" for part in readers.PLANETOID_PARTS]
    if folder is None or not all((folder / "raw" / file).is_file() for file in files):
        place = data_root() / "graphs" / name / "raw"
        raise UserError(
            f"the data set {name!r} is not under {str(data_root())!r}; put the Planetoid files {', '.join(files)} into {str(place)!r}"
        )
    return readers.read_planetoid(folder / "raw", name)
