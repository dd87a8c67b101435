"""What recipe.yaml says of a run: enough to repeat it and to load it without its data."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from anyview.config import from_yaml, to_yaml
from anyview.data.source import Source
from anyview.errors import UserError, unknown
from anyview.folder import RunFolder, read_yaml
from anyview.plugins import host
from anyview.recipe import Recipe

RECORD_KEYS = ("recipe", "seed", "precision", "preset", "parameters", "data", "versions", "created")


def recipe_record(recipe: Recipe, seed: int, precision: str = "32-true") -> dict[str, Any]:
    """What recipe.yaml holds: enough to repeat the run and to load it without its data."""
    source = recipe.source
    facts = {key: value for key, value in source.describe().items() if isinstance(value, (str, int, float, bool))}
    return {
        "recipe": recipe.name,
        "seed": seed,
        "preset": recipe.preset,
        "precision": precision,
        "parameters": {**to_yaml(recipe.values), "data": written_data(recipe.values.get("data"), source)},
        "data": {**facts, "name": source.name, "fingerprint": source.fingerprint(), "shape": dict(source.shape)},
        "versions": _versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def read_record(path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Recipe name, the parameters that it sets, checked, and the whole record of a recipe.yaml.

    Raises UserError for unknown keys, recipes and values.
    """
    record = read_yaml(path)
    for key in map(str, record):
        if key not in RECORD_KEYS:
            raise unknown(f"key (in {str(path)!r})", key, RECORD_KEYS, look="anyview pretrain --help")
    if not isinstance(record.get("recipe"), str):
        raise UserError(f"the configuration {str(path)!r} names no recipe; add a line such as `recipe: graphs/graphmae`")
    component = host().find("recipes", record["recipe"])
    parameters = record.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise UserError(f"the parameters in {str(path)!r} are no mapping; write one `name: value` per line below `parameters:`")
    checked = from_yaml(component.load().function, parameters, prog=f"anyview pretrain {component.full_name}")
    return component.full_name, {name: checked[name] for name in parameters}, record


def check_same(folder: RunFolder, record: dict[str, Any]) -> None:
    """Raise UserError unless a run that is to be resumed is the run that was begun."""
    saved = folder.read_recipe()
    check_record(saved, folder)
    before, now = ({**{key: kept.get(key) for key in ("recipe", "seed", "precision")}, **kept["parameters"]} for kept in (saved, record))
    for name in now:
        if before.get(name) != now[name]:
            raise UserError(
                f"--resume goes on with the run in {str(folder.path)!r}, which has {name} {before.get(name)!r}, "
                f"and {now[name]!r} was asked for; leave the flag out, or start a new run with another --out"
            )
    if saved["data"]["fingerprint"] != record["data"]["fingerprint"]:
        changed = f"the data {record['data']['name']!r} changed since the run in {str(folder.path)!r} was begun"
        raise UserError(f"{changed}; start a new run with another --out")


def check_record(record: Mapping[str, Any], folder: RunFolder) -> None:
    """Raise UserError unless a record is one that a run wrote."""
    data = record.get("data")
    whole = isinstance(data, dict) and isinstance(data.get("shape"), dict) and {"name", "fingerprint"} <= set(data)
    if not whole or not isinstance(record.get("seed"), int) or not isinstance(record.get("parameters"), dict):
        sentence = f"{str(folder.recipe_file)!r} is not what a run wrote (seed, parameters or data are missing)"
        raise UserError(f"{sentence}; restore it, or train again")


def written_data(data: Any, source: Source) -> str:
    """How a later process finds data again: absolute paths, or a name; of data that was in memory only its name."""
    return source.place or (str(data) if isinstance(data, (str, Path)) else source.name)


def _versions() -> dict[str, str]:
    """Versions that a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("anyview", "torch", "lightning-fabric", "numpy", "scikit-learn", "torch-geometric"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
