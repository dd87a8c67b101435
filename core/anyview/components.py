"""What the core itself brings; declared like any plugin's."""

from __future__ import annotations

from anyview.plugins import hookimpl

api = 1


@hookimpl
def recipes() -> dict[str, str]:
    """Recipes for rows of any kind."""
    return {"pair": "anyview.recipes.pair:pair"}


@hookimpl
def objectives() -> dict[str, str]:
    """Objectives that ask for rows or tokens, never for a modality."""
    return {
        "barlow_twins": "anyview.objectives.barlow_twins:BarlowTwins",
        "byol": "anyview.objectives.byol:BYOL",
        "vicreg": "anyview.objectives.vicreg:VICReg",
    }


@hookimpl
def encoders() -> dict[str, str]:
    """Encoders for rows."""
    return {"mlp": "anyview.encoders.mlp:MLP"}


@hookimpl
def views() -> dict[str, str]:
    """Views of tensors of any shape."""
    return {
        "noise": "anyview.views.noise:NoisePair",
        "crop": "anyview.views.crop:CropPair",
        "mask_tokens": "anyview.views.mask:MaskTokens",
        "mask_rows": "anyview.views.mask:MaskRows",
        "mask_columns": "anyview.views.mask:MaskColumns",
        "mix": "anyview.views.mix:MixedPair",
    }


@hookimpl
def datasets() -> dict[str, str]:
    """Rows that need no download."""
    return {"digits": "anyview.data.arrays:digits"}


@hookimpl
def evaluations() -> dict[str, str]:
    """Protocols on frozen rows."""
    return {
        "linear": "anyview.evaluation.linear:linear",
        "logistic": "anyview.evaluation.logistic:logistic",
        "knn": "anyview.evaluation.knn:knn",
        "cluster": "anyview.evaluation.cluster:cluster",
    }
