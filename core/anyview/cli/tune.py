"""`anyview tune RECIPE [flags]`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from anyview.cli.evaluate import protocol_options
from anyview.cli.pretrain import parse_recipe, saved_record, value_of
from anyview.config import Parser
from anyview.console import make_console, make_table, print_json
from anyview.errors import UserError
from anyview.plugins import Component, host

if TYPE_CHECKING:
    from anyview.tuning.search import Ranked, Tuned

USAGE = "anyview tune RECIPE [flags] [--range.NAME low..high]   (flags that are given stay fixed; a recipe's ranges: anyview show RECIPE)"
RANGE = "--range."


def options(
    *,
    out: str | None = None,
    trials: int = 20,
    seed: int = 0,
    by: str | None = None,
    jobs: int = 1,
    budget: float | None = None,
    repeat: int = 0,
    finalists: int = 3,
    retrain: bool = False,
    keep_all: bool = False,
    accelerator: str = "auto",
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    preset: str | None = None,
    config: str | None = None,
    data_root: str | None = None,
    json: bool = False,
) -> None:
    """How a search is carried out.

    Args:
        out: folder for the search (default: runs/tuned-RECIPE-DATA); where it holds this search, it goes on
        trials: how many; the first has the recipe's own values
        seed: decides what trials draw, their weights, data order and views
        by: validation, the recipe's own score; a protocol such as linear, asked for the validation part; or a label-free metric
        jobs: trials at a time, each in a process of its own
        budget: seconds of all trials together after which none begins
        repeat: fresh seeds that the finalists are trained again with; their mean decides
        finalists: how many of the best are trained again
        retrain: best.yaml trains on the validation part too, for the epochs that it chose
        keep_all: keep the weights of every trial, not of the best alone
        accelerator: cpu, cuda, mps or auto, which is cuda where it can be had, else cpu
        precision: of the arithmetic
        preset: a preset of the recipe by name, on top of the data set's own
        config: a YAML file such as a run's recipe.yaml, whose values the first trial has; flags win over it
        data_root: folder that named data sets are found under (default: $ANYVIEW_DATA)
        json: print JSON instead of a table
    """


def run(arguments: list[str]) -> int:
    """Search a recipe's ranges."""
    recipe, flags = (arguments[0], arguments[1:]) if arguments and not arguments[0].startswith("-") else (None, arguments)
    if recipe is None and {"-h", "--help"} & set(flags):
        print(f"usage: {USAGE}")
        return 0
    ranges, flags = divided(flags, RANGE)
    record = saved_record(flags, options, "anyview tune")
    name = recipe or record.get("recipe")
    if not isinstance(name, str):
        raise UserError(f"no recipe was named; usage: {USAGE}")
    component = host().find("recipes", name)
    if record and host().find("recipes", record["recipe"]) != component:
        raise UserError(f"the recipe {name!r} was asked for, and the configuration is of {record['recipe']!r}; leave one of the two out")
    return _search(component, flags, ranges, record)


def divided(flags: list[str], prefix: str) -> tuple[dict[str, str], list[str]]:
    """What follows flags that begin with a prefix, by the rest of their names, and all other words.

    >>> divided(["--range.lr", "1e-4..1e-2", "--json", "--range.l2=0..1"], "--range.")
    ({'lr': '1e-4..1e-2', 'l2': '0..1'}, ['--json'])
    """
    found: dict[str, str] = {}
    others: list[str] = []
    words = iter(flags)
    for word in words:
        if not word.startswith(prefix):
            others.append(word)
            continue
        name, equals, value = word.removeprefix(prefix).partition("=")
        if not equals and (value := next(words, "--")).startswith("--"):
            raise UserError(f"{word} was given without a value; write {word} 1e-4..1e-2, or choices with commas")
        found[name.replace("-", "_")] = value
    return found, others


def _search(component: Component, flags: list[str], ranges: Mapping[str, str], record: dict[str, Any]) -> int:
    function = component.load()
    by = value_of("--by", flags) if "by" in Parser(options, prog="anyview tune").given(flags) else ""
    protocol = by.rpartition("/")[2]
    of_protocol, flags = divided(flags, f"--{protocol}.") if protocol and protocol not in function.signature.parameters else ({}, flags)
    values, chosen, fixed = parse_recipe(component, flags, record, options, "anyview tune")
    from anyview.run import build
    from anyview.tuning.search import How, Search
    from anyview.tuning.space import space_of

    space = space_of(function, values, fixed, ranges, component.full_name)
    words = [f"--{protocol}.{option}={value}" for option, value in of_protocol.items()]
    names = ("trials", "seed", "by", "jobs", "budget", "repeat", "finalists", "retrain", "keep_all", "accelerator", "precision")
    how = How(**{name: chosen[name] for name in names}, options=protocol_options([protocol], words) if words else {}, quiet=False)
    out = chosen["out"]
    if out is None:
        data = build(component.full_name, values).source.name.rpartition("/")[2]
        out = f"runs/tuned-{component.name}-{data}"
    found = Search(component.full_name, space, out, how).run()
    if chosen["json"]:
        print_json(as_json(found))
    else:
        show(found)
    return 0


def as_json(found: Tuned) -> dict[str, Any]:
    """Everything that was found, best first; numbers that do not exist are null."""
    trials = [{**asdict(one.trial), **{name: _number(getattr(one, name)) for name in ("mean", "deviation")}} for one in found.trials]
    for told, one in zip(trials, found.trials, strict=True):
        told["fresh"] = list(one.fresh)
    plain = {"recipe": found.recipe, "by": found.by, "ranges": found.ranges, "untrained": _number(found.untrained), "left": found.left}
    return {**plain, "trials": trials, "failed": [asdict(one) for one in found.failed], "config": str(found.config)}


def show(found: Tuned) -> None:
    """Print the table, how sure the order is, and what to type next."""
    repeated = any(one.fresh for one in found.trials)
    passes = any(one.trial.passes is not None for one in found.trials)
    further = [*(["fresh seeds"] if repeated else []), *(["epochs"] if passes else [])]
    table = make_table("rank", "trial", *found.ranges, found.by, *further, "seconds")
    for rank, one in enumerate(found.trials, start=1):
        trial = one.trial
        cells = [str(rank), str(trial.number), *map(_cell, trial.setting.values()), f"{trial.score:.4f}"]
        cells += [_fresh(one)] if repeated else []
        cells += ["" if trial.passes is None else str(trial.passes)] if passes else []
        table.add_row(*cells, f"{trial.seconds:.0f}")
    out = make_console()
    out.print(table)
    out.print(f"trial 0 has the recipe's own values; before training {found.by} is {found.untrained:.4f}", soft_wrap=True)
    for failed in found.failed:
        setting = ", ".join(f"{name} {_cell(value)}" for name, value in failed.setting.items())
        out.print(f"trial {failed.number} failed ({setting}): {failed.error}", soft_wrap=True)
    if found.left:
        out.print(f"{found.left} trials were not made: the budget is spent, or there are no further choices", soft_wrap=True)
    out.print(how_sure(found), soft_wrap=True)
    told = f"the best trial's run is in {found.run_folder}; " if (found.run_folder / "encoder.safetensors").exists() else ""
    out.print(f"{told}to train with the best values: anyview pretrain --config {found.config} --out {found.folder}-best", soft_wrap=True)


def how_sure(found: Tuned) -> str:
    """How much the order of the first two says, as a sentence."""
    first, *others = found.trials
    repeated = [one for one in others if one.fresh]
    if not first.fresh:
        return "each trial was trained once, so the best of them looks better than it is; --repeat 3 trains the best anew with other seeds"
    told = f"over {len(first.fresh)} fresh seeds trial {first.trial.number} has {_fresh(first)}"
    if not repeated:
        return told
    second = repeated[0]
    spread = math.hypot(first.deviation, second.deviation) / math.sqrt(len(first.fresh))
    close = not abs(first.mean - second.mean) > 2 * spread
    beside = f"{told}, and trial {second.trial.number} {_fresh(second)}"
    return f"{beside}: it is not clearly ahead" if close else beside


def _fresh(one: Ranked) -> str:
    if not one.fresh:
        return ""
    return f"{one.mean:.4f}" + ("" if math.isnan(one.deviation) else f" ± {one.deviation:.4f}")


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
