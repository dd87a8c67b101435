"""`anyview pretrain RECIPE [flags]`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from anyview.config import Parser
from anyview.errors import UserError
from anyview.plugins import host

USAGE = "anyview pretrain RECIPE [flags]   (a recipe's own flags: anyview pretrain RECIPE --help; all recipes: anyview list recipes)"


def options(
    *,
    out: str | None = None,
    seed: int = 0,
    devices: int = 1,
    accelerator: str = "auto",
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    preset: str | None = None,
    config: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    data_root: str | None = None,
    checkpoint_every: int | None = None,
    log_every: int | None = None,
    logger: str | None = None,
) -> None:
    """How a run is carried out.

    Args:
        out: folder for the run (default: runs/RECIPE-DATA)
        seed: decides initial weights, data order and views
        devices: processes that share each batch
        accelerator: cpu, cuda, mps or auto, which is cuda where it can be had, else cpu
        precision: of the arithmetic
        preset: a preset of the recipe by name, on top of the data set's own
        config: a YAML file such as a run's recipe.yaml; flags win over it
        resume: go on from the last checkpoint in the folder
        overwrite: replace the run in the folder
        data_root: folder that named data sets are found under (default: $ANYVIEW_DATA)
        checkpoint_every: steps between checkpoints (default: about once a minute)
        log_every: steps between lines of metrics.jsonl (default: about a hundred lines)
        logger: also log below the run's folder: csv, tensorboard, or both with a comma
    """


def run(arguments: list[str]) -> int:
    """Train a recipe."""
    recipe, flags = (arguments[0], arguments[1:]) if arguments and not arguments[0].startswith("-") else (None, arguments)
    if recipe is None and {"-h", "--help"} & set(flags):
        print(f"usage: {USAGE}")
        return 0
    record = saved_record(flags, options, "anyview pretrain")
    name = recipe or record.get("recipe")
    if not isinstance(name, str):
        raise UserError(f"no recipe was named; usage: {USAGE}")
    component = host().find("recipes", name)
    if record and host().find("recipes", record["recipe"]) != component:
        raise UserError(f"the recipe {name!r} was asked for, and the configuration is of {record['recipe']!r}; leave one of the two out")
    values, chosen, _ = parse_recipe(component, flags, record, options, "anyview pretrain")
    return _train(component.full_name, values, chosen)


def saved_record(flags: Sequence[str], options: Callable[..., None], prog: str) -> dict[str, Any]:
    """The record that --config names, or that of the run that --resume goes on with; {} without either.

    options: the command's own, as a function. Sets the data root, which decides what names mean, if one is given.
    """
    given = Parser(options, prog=prog).given(flags)
    if "data_root" in given:
        os.environ["ANYVIEW_DATA"] = str(Path(value_of("--data-root", flags)).expanduser())
    if "config" in given:
        from anyview.record import read_record

        _, parameters, record = read_record(Path(value_of("--config", flags)))
        return {**record, "parameters": parameters}
    if any(word in ("--resume", "--resume=true") for word in flags):
        if "out" not in given:
            raise UserError("--resume goes on with the run in a folder, and none was named; add --out FOLDER")
        from anyview.folder import RunFolder
        from anyview.record import read_record

        _, parameters, record = read_record(RunFolder.existing(value_of("--out", flags)).recipe_file)
        return {**record, "parameters": parameters}
    return {}


def value_of(flag: str, flags: Sequence[str]) -> str:
    """What follows a flag on a command line; raises UserError when nothing does."""
    for position, word in enumerate(flags):
        name, equals, value = word.replace("_", "-", word.count("_") if "=" not in word else 0).partition("=")
        if name == flag:
            if not equals and position + 1 >= len(flags):
                break
            return value if equals else flags[position + 1]
    raise UserError(f"{flag} was given without a value; write {flag} VALUE")


def parse_recipe(
    component: Any, flags: Sequence[str], record: dict[str, Any], options: Callable[..., None], prog: str
) -> tuple[dict[str, Any], dict[str, Any], set[str]]:
    """The recipe's values, the command's options, and what flags name: defaults, under presets, under the configuration, under flags.

    What fills a slot is settled first, and options of slots change that. options: the command's own, as a function.
    """
    function = component.load()
    summary = (function.__doc__ or "").partition("\n")[0]
    parser = Parser(function.function, options, prog=f"{prog} {component.full_name}", description=summary)
    below: dict[str, Any] = {name: record[name] for name in ("seed", "precision") if name in record}
    saved = record.get("parameters", {})
    first = parser.parse(parser.without_slot_options(flags), defaults={**below, **saved})
    given = {name: first[name] for name in {*parser.given(flags), *saved} if name in function.signature.parameters}
    asked = first["preset"] or str(record.get("preset") or "").rpartition("+")[2] or None
    resolved, applied = function.resolve(given, asked)
    parsed = parser.parse(flags, defaults={**below, **resolved})
    parsed["preset"] = applied
    own = function.signature.parameters
    chosen = {name: parsed[name] for name in parser.names if name not in own}
    return {name: parsed[name] for name in own}, chosen, parser.given(flags)


def _train(name: str, values: dict[str, Any], chosen: dict[str, Any]) -> int:
    from rich.console import Console

    from anyview.run import build
    from anyview.training import InterruptedRunError, pretrain

    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    recipe = build(name, values, seed=chosen["seed"])
    recipe.preset = chosen["preset"]
    out = chosen["out"] or f"runs/{name.rpartition('/')[2]}-{recipe.source.name.rpartition('/')[2]}"
    _announce(console, recipe, chosen["config"])
    try:
        finished = pretrain(
            recipe,
            out,
            seed=chosen["seed"],
            devices=chosen["devices"],
            accelerator=chosen["accelerator"],
            precision=chosen["precision"],
            resume=chosen["resume"],
            overwrite=chosen["overwrite"],
            checkpoint_every=chosen["checkpoint_every"],
            log_every=chosen["log_every"],
            loggers=[name.strip() for name in (chosen["logger"] or "").split(",") if name.strip()],
            quiet=False,
        )
    except InterruptedRunError as stop:
        print(f"anyview: {stop} (folder {out})", file=console.file)
        return 130
    last = [line for line in finished.folder.metrics() if "loss" in line][-1]
    facts = ", ".join(f"{label} {last[key]:.4g}" for key, label in (("loss", "loss"), ("rankme", "RankMe")) if key in last)
    console.print(f"trained {name} for {last['step']} steps ({facts}); the run is in {out}; next: anyview evaluate {out}")
    return 0


def _announce(console: Any, recipe: Any, config: str | None) -> None:
    """Say what runs on what, with which values, and where they come from."""
    from anyview.config import to_yaml

    console.print(", ".join(f"{key} {value}" for key, value in recipe.source.describe().items()))
    console.print(", ".join(f"{key} {value}" for key, value in to_yaml(recipe.values).items() if key != "data"), style="dim")
    if recipe.preset is None and config is not None:
        console.print(f"values from {config}")
    elif recipe.preset is None:
        console.print("no preset for this data set: the values above are defaults that are not tuned to it")
    else:
        console.print(f"preset {recipe.preset}")
