"""A plugin to copy: what it adds, by name, as "module:attribute"; nothing of it is imported before it is used."""

from __future__ import annotations

from anyview.plugins import hookimpl

api = 1
install = "anyview-template"  # what to tell whoever lacks a dependency


@hookimpl
def views() -> dict[str, str]:
    return {"hidden_columns": "anyview_template.views:HiddenColumns"}


@hookimpl
def encoders() -> dict[str, str]:
    return {"two_layers": "anyview_template.encoders:TwoLayers"}


@hookimpl
def recipes() -> dict[str, str]:
    return {"dropout_pair": "anyview_template.recipes.dropout_pair:dropout_pair"}
