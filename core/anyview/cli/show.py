"""`anyview show NAME`: the components of a name, with everything that can be set."""

from __future__ import annotations

import inspect
from typing import Any

from anyview.config import Parser, parse_command
from anyview.errors import unknown
from anyview.plugins import KINDS, Component, host


def show(name: str) -> None:
    """What a component is, its flags with types and defaults; of a recipe also presets and the paper's results.

    A name that several components share, of one plugin in several kinds or of several plugins, shows each of them.

    Args:
        name: a name as `anyview list` prints it
    """
    print("\n\n\n".join(describe(component) for component in _find(name)))


def run(arguments: list[str]) -> int:
    """Show a component."""
    show(**parse_command(show, arguments, "anyview show NAME"))
    return 0


def describe(component: Component) -> str:
    """A component as text."""
    thing = component.load()
    parts = [f"{component.full_name}  ({component.kind}, plugin {component.plugin})", _documentation(thing)]
    flags = _flags(component, thing)
    if flags:
        parts.append(flags)
    if component.kind == "recipes":
        parts += _presets(thing) + _ranges(thing) + _results(thing)
    return "\n\n".join(part for part in parts if part)


def _find(name: str) -> list[Component]:
    """The components with this full or short name, of whatever kind."""
    kinds = [kind for kind in KINDS if kind != "commands"]
    components = [component for kind in kinds for component in host().components(kind)]
    found = [component for component in components if name in (component.full_name, component.name)]
    if not found:
        raise unknown("component", name, [spelling for c in components for spelling in (c.full_name, c.name)], look="anyview list")
    return found


def _documentation(thing: Any) -> str:
    """The docstring up to its arguments: those follow as flags."""
    return (inspect.getdoc(thing) or "").partition("\nArgs:")[0].strip()


def _flags(component: Component, thing: Any) -> str:
    if component.kind == "datasets":
        return ""
    skip = {"recipes": (), "evaluations": ("data", "seed")}.get(component.kind)
    if skip is None:
        signature = inspect.signature(thing)
        return "options:\n" + "\n".join(f"  {parameter}" for parameter in signature.parameters.values() if parameter.name != "self")
    function = getattr(thing, "function", thing)
    text = Parser(function, prog=f"anyview pretrain {component.full_name}", skip=skip).help()
    return text[text.index("options:") :].rstrip()


def _presets(thing: Any) -> list[str]:
    if not thing.presets:
        return []
    lines = [f"  {name:<12} " + ", ".join(f"{key} {value}" for key, value in preset.items()) for name, preset in thing.presets.items()]
    return ["presets (by data set's name, or --preset NAME):\n" + "\n".join(lines)]


def _ranges(thing: Any) -> list[str]:
    if not thing.ranges:
        return []
    lines = [f"  {name:<12} {one}" for name, one in thing.ranges.items()]
    return ["ranges (that `anyview tune` draws from; --range.NAME low..high changes them):\n" + "\n".join(lines)]


def _results(thing: Any) -> list[str]:
    if not thing.results:
        return []
    return ["the paper's results:\n" + "\n".join(f"  {name:<12} {result}" for name, result in thing.results.items())]
