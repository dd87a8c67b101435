"""Recommenders: what this plugin brings; nothing is imported until it is used."""

from __future__ import annotations

from anyview.plugins import hookimpl

api = 1
install = "anyview[recommenders]"
TRANSFORMERS = {"item_transformer": "ItemTransformer", "cloze_transformer": "ClozeTransformer"}
SEQUENCE_VIEWS = {"next_items": "NextItems", "cloze": "Cloze", "augmented_sequences": "Augmented"}


@hookimpl
def recipes() -> dict[str, str]:
    """Models, one file each."""
    names = [
        *("lightgcn", "sgl", "simgcl", "xsimgcl", "ncl", "lightgcl", "direct_au", "contrast"),
        *("hccf", "autocf", "dccf", "adagcl", "gformer"),
        *("sasrec", "bert4rec", "cl4srec", "duorec", "iclrec", "maerec", "dcrec"),
        *("mhcn", "dsl", "smin", "kcgn"),
        *("smbrec", "cml", "hmgcr", "mbgmn", "kmclr"),
        *("kgin", "kgcl", "kgrec", "diffkg"),
        "two_towers",
    ]
    return {name: f"anyview_recommenders.recipes.{name}:{name}" for name in names}


@hookimpl
def objectives() -> dict[str, str]:
    """Objectives over users, their items and other items, over views of items, and over what comes next in a sequence."""
    names = {"bpr": "objectives:BPR", "item_contrast": "item_contrast:ItemContrast", "next_item": "next_item:NextItem"}
    return {name: f"anyview_recommenders.{target}" for name, target in names.items()}


@hookimpl
def encoders() -> dict[str, str]:
    """Encoders of users and items, and of sequences of items."""
    names = {"light_graph_convolution": "encoders:LightGraphConvolution", "two_towers": "towers:TwoTowers"}
    names |= {name: f"sequence_encoders:{kind}" for name, kind in TRANSFORMERS.items()}
    return {name: f"anyview_recommenders.{target}" for name, target in names.items()}


@hookimpl
def views() -> dict[str, str]:
    """What is shown of a batch of interactions, or of sequences."""
    names = {"triples": "views:Triples", "users_with_items": "feature_views:UsersWithItems", "item_pair": "feature_views:ItemPair"}
    names |= {name: f"sequence_views:{kind}" for name, kind in SEQUENCE_VIEWS.items()}
    return {name: f"anyview_recommenders.{target}" for name, target in names.items()}


@hookimpl
def datasets() -> dict[str, str]:
    """Logs by name; a path to the user's own works everywhere as well."""
    generated = ("generated", "generated-features", "generated-walks", "generated-social", "generated-behaviours", "generated-knowledge")
    names = {name: name.replace("-", "_") for name in (*generated, "lastfm", "ml-latest-small", "amazon-beauty", "retail_rocket")}
    return {name: f"anyview_recommenders.datasets_named:{function}" for name, function in names.items()}


@hookimpl
def evaluations() -> dict[str, str]:
    """Ranking of the whole catalogue."""
    return {"ranking": "anyview_recommenders.evaluations:ranking"}


@hookimpl
def commands() -> dict[str, str]:
    """The items to show to somebody."""
    return {"recommend": "anyview_recommenders.recommend:run"}
