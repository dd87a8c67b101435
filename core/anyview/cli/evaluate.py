"""`anyview evaluate DIR [--protocol NAMES] [--json]`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from anyview.config import Parser, parse_command
from anyview.console import make_console, print_json
from anyview.errors import UserError
from anyview.plugins import host

PROG = "anyview evaluate DIR"


def options(
    folder: str,
    *,
    protocol: str | None = None,
    data: str | None = None,
    seeds: int = 5,
    metrics: str | None = None,
    baselines: str | None = None,
    device: str = "auto",
    data_root: str | None = None,
    json: bool = False,
) -> None:
    """Scores of a run's frozen encoder beside the same encoder untrained and the raw features.

    Args:
        folder: the run
        protocol: one or more, with commas (default: the data's own, or linear where there are labels); options follow as --PROTOCOL.OPTION
        data: other data than the run's own, as a name or a path
        seeds: how many seeds; splits that are drawn are drawn anew for each
        metrics: further label-free ones, with commas: lidar, alignment, uniformity, self_retrieval, hubness, clid
        baselines: those that stand beside, with commas, or none (default: all there are)
        device: that encoders run on: cpu, cuda, mps or auto, which is cuda where it can be had, else cpu
        data_root: folder that named data sets are found under (default: $ANYVIEW_DATA)
        json: print JSON instead of a table
    """


def run(arguments: list[str]) -> int:
    """Evaluate a run."""
    own, of_protocols = _divide(arguments)
    chosen = parse_command(options, own, PROG)
    asked = chosen["protocol"]
    names = [host().find("evaluations", name.strip()).name for name in (asked or "linear").split(",")]
    settings = protocol_options(names, of_protocols)
    if chosen["seeds"] < 1:
        raise UserError(f"--seeds takes at least 1, and was given {chosen['seeds']}")
    if chosen["data_root"]:
        os.environ["ANYVIEW_DATA"] = chosen["data_root"]
    from anyview.run import load

    trained = load(chosen["folder"])
    source = trained.open(chosen["data"])
    baselines = None if chosen["baselines"] is None else [] if chosen["baselines"] == "none" else _names(chosen["baselines"])
    how = {"seeds": chosen["seeds"], "options": settings, "baselines": baselines, "device": chosen["device"]}
    how["metrics"] = _names(chosen["metrics"] or "")
    results = trained.evaluate(names if asked else None, data=source, **how)
    content = trained.evaluation(source)
    if chosen["json"]:
        now = {result.protocol: content["protocols"][result.protocol] for result in results}
        print_json({"data": source.name, **content, "protocols": now})
        return 0
    from anyview.evaluation.protocol import table

    out = make_console()
    out.print(table(results) if results else f"{source.name} has no labels: the label-free metrics alone")
    out.print(f"label-free: {label_free_words(content['label_free'])}")
    return 0


def label_free_words(facts: Mapping[str, Any]) -> str:
    """Label-free metrics as one line."""
    return ", ".join(f"{name} {_rounded(value)}" for name, value in facts.items())


def _rounded(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_rounded, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _names(words: str) -> list[str]:
    """What commas separate."""
    return [name.strip() for name in words.split(",") if name.strip()]


def _divide(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The command's own words, and those that set a protocol's options (`--linear.lr 0.1`)."""
    own: list[str] = []
    of_protocols: list[str] = []
    words = iter(arguments)
    for word in words:
        if word.startswith("--") and "." in word.partition("=")[0]:
            of_protocols.append(word)
            if "=" not in word:
                of_protocols.append(next(words, ""))
        else:
            own.append(word)
    return own, of_protocols


def protocol_options(names: list[str], words: list[str]) -> dict[str, dict[str, object]]:
    """Options by protocol, checked against each protocol's signature."""
    by_name: dict[str, list[str]] = {name: [] for name in names}
    position = 0
    while position < len(words):
        flag = words[position].removeprefix("--")
        name, _, option = flag.partition(".")
        if name not in by_name:
            raise UserError(f"--{flag} sets an option of the protocol {name!r}, which was not asked for; add it to --protocol")
        step = 1 if "=" in flag else 2
        by_name[name] += [f"--{option}", *words[position + 1 : position + step]]
        position += step
    settings: dict[str, dict[str, object]] = {}
    for name, flags in by_name.items():
        parser = Parser(host().find("evaluations", name).load(), prog=f"anyview evaluate --protocol {name}", skip=("data", "seed"))
        values = parser.parse(flags)
        settings[name] = {option: values[option] for option in parser.given(flags) if option in values}
    return settings
