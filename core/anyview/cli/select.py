"""`anyview select RUN RUN... [--metric NAME] [--json]`."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from anyview.config import Parser
from anyview.console import make_console, make_table, print_json
from anyview.errors import UserError

if TYPE_CHECKING:
    from anyview.evaluation.selection import Ranked, Selection

PROG = "anyview select RUN RUN..."


def options(
    *,
    metric: str = "rankme",
    rows: str = "encoder",
    second: str | None = None,
    samples: int = 10_000,
    views: int = 50,
    halves: int = 200,
    seed: int = 0,
    device: str = "auto",
    data_root: str | None = None,
    json: bool = False,
) -> None:
    """Rank finished runs without labels, by a metric of their rows on the data that they were trained on.

    Args:
        metric: rankme, entropy_rank, participation_ratio, nesum, alpha_req, lidar, clid, self_retrieval or hubness
        rows: encoder, whose rows are used afterwards, or projector, whose rows the loss compared (RankMe's paper ranks by these)
        second: another of them, whose order is compared with the first one's
        samples: rows at most, or samples whose views are drawn (then at most 1000)
        views: of each sample, for lidar and self_retrieval
        halves: random halves of the samples that intervals are taken over
        seed: decides rows, views and halves
        device: cpu, cuda, mps or auto, which is cuda where it can be had, else cpu
        data_root: folder that named data sets are found under (default: $ANYVIEW_DATA)
        json: print JSON instead of a table
    """


def run(arguments: list[str]) -> int:
    """Rank runs."""
    parser = Parser(options, prog=PROG, description=(options.__doc__ or "").partition("\n")[0])
    folders, flags = divide(arguments, parser.switches)
    chosen = parser.parse(flags)
    if not folders:
        raise UserError("select compares runs, and none was named; give the folders of two or more, as in `anyview select runs/a runs/b`")
    if chosen["data_root"]:
        os.environ["ANYVIEW_DATA"] = chosen["data_root"]
    from anyview.evaluation.metrics import find_metric
    from anyview.evaluation.selection import select
    from anyview.run import load

    for name in filter(None, (chosen["metric"], chosen["second"])):
        find_metric(name)  # before anything is loaded
    names = ("metric", "rows", "second", "samples", "views", "seed", "device")
    found = select([load(folder) for folder in folders], **{name: chosen[name] for name in names}, count=chosen["halves"])
    if chosen["json"]:
        print_json(as_json(found))
    else:
        show(found)
    return 0


def divide(arguments: list[str], switches: set[str]) -> tuple[list[str], list[str]]:
    """The folders, and the flags with their values."""
    folders: list[str] = []
    flags: list[str] = []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            folders.append(word)
            continue
        flags.append(word)
        name = word.removeprefix("--").removeprefix("no-").replace("-", "_")
        if word.startswith("--") and "=" not in word and name not in switches and name != "help":
            flags += [value for value in (next(words, None),) if value is not None]
    return folders, flags


def as_json(found: Selection) -> dict[str, Any]:
    """Everything that was found; numbers that do not exist are null."""
    told = asdict(found)
    for one in told["runs"]:
        one["interval"] = None if one["rank"] is None else [one.pop("low"), one.pop("high")]
        one.pop("low", None), one.pop("high", None)
        one["value"] = one["value"] if one["value"] == one["value"] else None
    return told


def show(found: Selection) -> None:
    """Print the table, and how sure it is."""
    from anyview.evaluation.selection import NOT_SURE

    parts = [name for name in found.runs[0].parts if name != found.metric]
    table = make_table(
        "rank", "run", "settings that differ", found.metric, "95 % interval", "untrained", *(part.replace("_", " ") for part in parts)
    )
    for one in found.runs:
        table.add_row(*cells(one), *(f"{one.parts[part]:.4g}" for part in parts))
    out = make_console()
    out.print(table)
    first, *others = [one for one in found.runs if one.rank is not None]
    sizes = ", ".join(dict.fromkeys(f"{one.samples} x {one.width}" for one in found.runs))
    out.print(f"{found.metric} of {found.rows} ({sizes}); the best has {found.best}", soft_wrap=True)
    sure = f"{first.run} is the best with probability {found.probability:.2f} ({found.halves} random halves of the samples)"
    out.print(sure if found.probability >= NOT_SURE else f"{sure}: it is not clearly ahead of {others[0].run}", soft_wrap=True)
    order = f"the order by {found.second} agrees with Kendall's tau {found.agreement:.2f} over {1 + len(others)} runs"
    out.print(order, soft_wrap=True)
    for warning in found.warnings:
        out.print(f"warning: {warning}", soft_wrap=True)


def cells(one: Ranked) -> list[str]:
    """Rank, name, settings, value, interval and control of a run."""
    settings = ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in one.settings.items())
    rank = "-" if one.rank is None else str(one.rank)
    between = "" if one.rank is None else f"{one.low:.4g} to {one.high:.4g}"
    untrained = "" if one.untrained is None else f"{one.untrained:.4g}"
    return [rank, one.run, settings, f"{one.value:.4g}", between, untrained]
