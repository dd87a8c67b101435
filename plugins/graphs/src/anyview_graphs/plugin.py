"""Graphs: what this plugin brings; nothing is imported until it is used."""

from __future__ import annotations

from anyview.plugins import hookimpl

api = 1
install = "anyview[graphs]"


@hookimpl
def recipes() -> dict[str, str]:
    """Papers, and two that take any objective."""
    return {
        "graphmae": "anyview_graphs.recipes.graphmae:graphmae",
        "pair": "anyview_graphs.recipes.pair:pair",
        "masked": "anyview_graphs.recipes.masked:masked",
    }


@hookimpl
def objectives() -> dict[str, str]:
    """Objectives that need a graph beside the rows."""
    return {"masked_features": "anyview_graphs.objectives:MaskedFeatures"}


@hookimpl
def encoders() -> dict[str, str]:
    """Graph encoders."""
    return {
        "gat": "anyview_graphs.encoders:GraphAttention",
        "gcn": "anyview_graphs.encoders:GraphConvolution",
        "gin": "anyview_graphs.encoders:GraphIsomorphism",
    }


@hookimpl
def views() -> dict[str, str]:
    """Views of one graph."""
    return {"corrupted_pair": "anyview_graphs.views:CorruptedPair", "mask_nodes": "anyview_graphs.views:MaskNodes"}


@hookimpl
def datasets() -> dict[str, str]:
    """Graphs by name; a path to the user's own works everywhere as well."""
    return {
        "cora": "anyview_graphs.datasets:cora",
        "citeseer": "anyview_graphs.datasets:citeseer",
        "pubmed": "anyview_graphs.datasets:pubmed",
        "ogbn-arxiv": "anyview_graphs.datasets:ogbn_arxiv",
        "digits": "anyview_graphs.datasets:digits",
        "wine": "anyview_graphs.datasets:wine",
    }
