"""How each objective is run by `benchmarks/objectives.py`: widths that suit 8,000 small images, and what else differs from the defaults."""

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
    "simsiam": "--objective.width 512 --objective.hidden 128",
    "tico": "--objective.hidden 512 --objective.width 128",
    "vicreg": "--objective.width 256",
    "vicregl": "--objective.width 256 --objective.local_width 128 --objective.matches 4",
    "w_mse": "--objective.hidden 256 --objective.width 32",
}
CROPS = {
    "swav": "--objective.hidden 256 --objective.width 64 --objective.prototypes 200",
    "dino": "--objective.hidden 256 --objective.width 64 --objective.prototypes 256 --objective.momentum 0.9",
    "msn": "--objective.hidden 256 --objective.width 64 --objective.prototypes 200 --objective.momentum 0.98",
    "ibot": "--encoder images/vision_transformer --encoder.patch 4 --encoder.dim 96 --encoder.depth 4 --encoder.heads 4 "
    "--objective.hidden 256 --objective.width 64 --objective.prototypes 256 --objective.momentum 0.9",
}
MASKED = {
    "masked_reconstruction": "--objective.width 64 --objective.depth 2 --objective.heads 4",
    "data2vec": "--objective.momentum 0.99",
    "i_jepa": "--objective.width 64 --objective.depth 2 --objective.momentum 0.99",
}


def settings(data: str) -> dict[str, str]:
    """The recipe and its flags by objective, as typed behind `anyview pretrain`."""
    by_recipe = {"images/pair --epochs 6": PAIR, "images/multicrop": CROPS, "images/masked": MASKED}
    return {
        name: f"{recipe} --data {data} --objective core/{name} {flags}"
        for recipe, table in by_recipe.items()
        for name, flags in table.items()
    }
