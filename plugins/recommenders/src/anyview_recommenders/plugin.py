"""Recommenders: what this plugin brings; nothing is imported until it is used."""

from __future__ import annotations

from anyview.plugins import hookimpl

api = 1
install = "anyview[recommenders]"


@hookimpl
def recipes() -> dict[str, str]:
    """Models, one file each."""
    names = ("lightgcn", "sgl", "simgcl", "xsimgcl", "ncl", "lightgcl", "direct_au", "contrast")
    names += ("mhcn",)
    return {name: f"anyview_recommenders.recipes.{name}:{name}" for name in names}


@hookimpl
def objectives() -> dict[str, str]:
    """Objectives over users, their items and other items."""
    return {"bpr": "anyview_recommenders.objectives:BPR"}


@hookimpl
def encoders() -> dict[str, str]:
    """Encoders of users and items."""
    return {"light_graph_convolution": "anyview_recommenders.encoders:LightGraphConvolution"}


@hookimpl
def views() -> dict[str, str]:
    """What is shown of a batch of interactions."""
    return {"triples": "anyview_recommenders.views:Triples"}


@hookimpl
def datasets() -> dict[str, str]:
    """Logs by name; a path to the user's own works everywhere as well."""
    names = {"generated": "generated", "lastfm": "lastfm", "ml-latest-small": "ml_latest_small"}
    names |= {"generated-social": "generated_social", "generated-behaviours": "generated_behaviours"}
    names |= {"amazon-beauty": "amazon_beauty", "retail_rocket": "retail_rocket"}
    return {name: f"anyview_recommenders.datasets_named:{function}" for name, function in names.items()}


@hookimpl
def evaluations() -> dict[str, str]:
    """Ranking of the whole catalogue."""
    return {"ranking": "anyview_recommenders.evaluations:ranking"}


@hookimpl
def commands() -> dict[str, str]:
    """The items to show to somebody."""
    return {"recommend": "anyview_recommenders.recommend:run"}
