"""What the core itself brings; declared like any plugin's."""

from __future__ import annotations

from anyview.plugins import hookimpl

api = 1


@hookimpl
def recipes() -> dict[str, str]:
    """Recipes for rows of any kind."""
    return {"pair": "anyview.recipes.pair:pair", "masked": "anyview.recipes.masked:masked"}


@hookimpl
def objectives() -> dict[str, str]:
    """Objectives that ask for rows or tokens, never for a modality."""
    return {
        "align_uniform": "anyview.objectives.align_uniform:AlignUniform",
        "barlow_twins": "anyview.objectives.barlow_twins:BarlowTwins",
        "byol": "anyview.objectives.byol:BYOL",
        "data2vec": "anyview.objectives.data2vec:Data2Vec",
        "dcl": "anyview.objectives.dcl:DCL",
        "deepcluster_v2": "anyview.objectives.deepcluster_v2:DeepClusterV2",
        "dino": "anyview.objectives.dino:DINO",
        "i_jepa": "anyview.objectives.i_jepa:IJEPA",
        "ibot": "anyview.objectives.ibot:IBOT",
        "lejepa": "anyview.objectives.lejepa:LeJEPA",
        "masked_columns": "anyview.objectives.masked_columns:MaskedColumns",
        "masked_reconstruction": "anyview.objectives.masked_reconstruction:MaskedReconstruction",
        "mixed_barlow_twins": "anyview.objectives.mixed_barlow_twins:MixedBarlowTwins",
        "moco_v2": "anyview.objectives.moco_v2:MoCoV2",
        "moco_v3": "anyview.objectives.moco_v3:MoCoV3",
        "msn": "anyview.objectives.msn:MSN",
        "myow": "anyview.objectives.myow:MYOW",
        "nnclr": "anyview.objectives.nnclr:NNCLR",
        "simclr": "anyview.objectives.simclr:SimCLR",
        "simsiam": "anyview.objectives.simsiam:SimSiam",
        "swav": "anyview.objectives.swav:SwAV",
        "tico": "anyview.objectives.tico:TiCo",
        "vicreg": "anyview.objectives.vicreg:VICReg",
        "vicregl": "anyview.objectives.vicregl:VICRegL",
        "w_mse": "anyview.objectives.w_mse:WMSE",
    }


@hookimpl
def combiners() -> dict[str, str]:
    """From several losses to one gradient."""
    return {
        "weighted_sum": "anyview.combiners.weighted_sum:WeightedSum",
        "mgda": "anyview.combiners.mgda:MGDA",
        "pcgrad": "anyview.combiners.pcgrad:PCGrad",
    }


@hookimpl
def schedules() -> dict[str, str]:
    """Factors on a learning rate, momenta, weights of losses."""
    return {
        "constant": "anyview.schedules:Constant",
        "cosine": "anyview.schedules:Cosine",
        "linear": "anyview.schedules:Linear",
        "ramp": "anyview.schedules:Ramp",
        "equal_weights": "anyview.schedules:EqualWeights",
    }


@hookimpl
def encoders() -> dict[str, str]:
    """Encoders for rows and sequences of rows."""
    return {"mlp": "anyview.encoders.mlp:MLP", "transformer": "anyview.encoders.transformer:SequenceTransformer"}


@hookimpl
def views() -> dict[str, str]:
    """Views of tensors of any shape."""
    return {
        "noise": "anyview.views.noise:NoisePair",
        "crop": "anyview.views.crop:CropPair",
        "mask_tokens": "anyview.views.mask:MaskTokens",
        "mask_rows": "anyview.views.mask:MaskRows",
        "mask_columns": "anyview.views.mask:MaskColumns",
        "mask_grid": "anyview.views.blocks:MaskGrid",
        "context_targets": "anyview.views.blocks:ContextTargets",
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
        "finetune": "anyview.evaluation.finetune:finetune",
        "label_fraction": "anyview.evaluation.label_fraction:label_fraction",
        "ood": "anyview.evaluation.ood:ood",
        "corruption": "anyview.evaluation.corruption:corruption",
        "transfer": "anyview.evaluation.transfer:transfer",
    }
