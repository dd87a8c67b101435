"""How each objective is run by `benchmarks/objectives.py`: widths that suit a few thousand small images, and what else differs from the
defaults and from the data set's preset.
"""

from __future__ import annotations

PAIR = {
    "align_uniform": "--objective.hidden 256 --objective.width 64",
    "barlow_twins": "--objective.width 256 --objective.redundancy 0.004",
    "byol": "--objective.hidden 512 --objective.width 128 --objective.momentum 0.98",
    "dcl": "--objective.hidden 256 --objective.width 64 --objective.temperature 0.2",
    "deepcluster_v2": "--objective.hidden 256 --objective.width 64 --objective.prototypes 100",
    "lejepa": "--objective.bottleneck 128 --objective.hidden 256 --objective.width 64",
    "mixed_barlow_twins": "--objective.hidden 256 --objective.width 256 --objective.redundancy 0.004",
    "moco_v2": "--objective.hidden 256 --objective.width 64 --objective.queue_size 4096 --objective.momentum 0.99",
    "moco_v3": "--objective.hidden 512 --objective.width 128 --objective.momentum 0.98",
    "myow": "--objective.hidden 512 --objective.width 128 --objective.second_hidden 256 --objective.second_width 64 "
    "--objective.momentum 0.98",
    "nnclr": "--objective.hidden 512 --objective.width 128 --objective.predictor_hidden 512 --objective.queue_size 4096 "
    "--objective.temperature 0.2",
    "simclr": "--objective.hidden 256 --objective.width 64 --objective.temperature 0.2",
    "simsiam": "--lr 0.75 --objective.width 512 --objective.hidden 128",
    "tico": "--objective.hidden 512 --objective.width 128",
    "vicreg": "--objective.width 256",
    "vicregl": "--objective.width 256 --objective.local_width 128 --objective.matches 4",
    "w_mse": "--objective.hidden 256 --objective.width 32",
}
CROPS = {
    "swav": "--objective.hidden 256 --objective.width 64 --objective.prototypes 20 --objective.temperature 0.2",
    "dino": "--lr 0.3 --objective.hidden 256 --objective.width 64 --objective.prototypes 1024 --objective.norm true "
    "--objective.centering sinkhorn --objective.momentum 0.95",
    "msn": "--objective.hidden 256 --objective.width 64 --objective.prototypes 50 --objective.momentum 0.9",
    "ibot": "--optimizer adamw {ibot} {transformer} --objective.hidden 256 --objective.width 64 --objective.prototypes 1024",
}
MASKED = {
    "masked_reconstruction": "--lr 2e-3 --objective.width 64 --objective.depth 1 --objective.heads 4",
    "data2vec": "--lr 3e-3 --batch-size 32 --mask-rate 0.6 --objective.normalise batch "
    "--objective.momentum 0.9998 --objective.final_momentum 1.0",
    "i_jepa": "{i_jepa} --targets 2 --objective.width 64 --objective.depth 1 --objective.heads 4",
}
EPOCHS = {"mnist": {"pair": 6, "multicrop": 6, "masked": 12}, "digits": {"pair": 10, "multicrop": 20, "masked": 60}}
LONGER = {("mnist", "data2vec"): 24, ("digits", "ibot"): 40}  # instead of those
TRANSFORMER = "--encoder images/vision_transformer --encoder.patch {patch} --encoder.dim {dim} --encoder.depth {depth} --encoder.heads 4"
TRANSFORMERS = {"mnist": TRANSFORMER.format(patch=7, dim=128, depth=3), "digits": TRANSFORMER.format(patch=2, dim=96, depth=2)}

IBOT = {  # small views of digits show too little
    "mnist": "--lr 1e-3 --local-size 14 --objective.momentum 0.98",
    "digits": "--lr 1e-3 --locals 0 --clip 1 --batch-size 32 --objective.momentum 0.998",
}
I_JEPA = {
    "mnist": "--lr 5e-4 --objective.momentum 0.95",
    "digits": "--lr 1e-3 --batch-size 32 --objective.momentum 0.99",
}


def settings(data: str, epochs: int | None = None) -> dict[str, str]:
    """The recipe and its flags by objective, as typed behind `anyview pretrain`; epochs: in place of those above."""
    return {
        name: f"images/{recipe} --data {data} --epochs {epochs or LONGER.get((data, name), EPOCHS[data][recipe])} --objective core/{name} "
        + flags.format(transformer=TRANSFORMERS[data], ibot=IBOT[data], i_jepa=I_JEPA[data])
        for recipe, table in (("pair", PAIR), ("multicrop", CROPS), ("masked", MASKED))
        for name, flags in table.items()
    }
