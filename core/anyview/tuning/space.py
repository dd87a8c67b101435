"""What is searched: a recipe's values, the ranges that apply to it, and what each trial draws."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyview.config import Parser, component_of, takes_none, to_yaml, written_slot
from anyview.errors import UserError, unknown
from anyview.plugins import host
from anyview.ranges import Choices, Range, parsed
from anyview.recipe import RecipeFunction
from anyview.views.draws import derive_seed

Setting = dict[str, Any]
"""A trial's own values, by the names of the ranges, as plain as YAML; of a choice among components their names."""

REPEATS = 1000
"""So many draws in a row that were all there before end a search: its choices are exhausted."""


@dataclass(frozen=True)
class Space:
    """A recipe with all its values, and the ranges that some of them are drawn from."""

    function: RecipeFunction
    values: Mapping[str, Any]
    ranges: Mapping[str, Range]

    @property
    def own(self) -> Setting:
        """What the values say where ranges would draw: the first trial."""
        return {name: self._plain(name) for name in self.ranges}

    def settings(self, seed: int, count: int) -> list[Setting]:
        """Of every trial, the values' own first; no two are equal, and there are fewer than `count` where choices are exhausted.

        A number follows from the seed, how many draws there were before, and its name alone: no other range moves it.
        """
        found, draw, repeated = [self.own], 0, 0
        while len(found) < count and repeated < REPEATS and self.ranges:
            draw += 1
            generators = {name: np.random.default_rng(derive_seed(seed, "trial", draw, name)) for name in self.ranges}
            drawn = {name: _plain(one.draw(generators[name])) for name, one in self.ranges.items()}
            repeated = repeated + 1 if drawn in found else 0
            if not repeated:
                found.append(drawn)
        return found

    def applied(self, setting: Setting) -> dict[str, Any]:
        """All values, with those of a trial in their places."""
        values = dict(self.values)
        for name in (name for name, value in setting.items() if value != self.own[name]):
            slot, dot, option = name.partition(".")
            value = next((end for end in self._choices(name) if _plain(end) == setting[name]), setting[name])
            if dot:
                filling = values[slot]
                given = filling.keywords if isinstance(filling, functools.partial) else {}
                values[slot] = functools.partial(component_of(filling) or _empty(slot, option), **{**given, option: value})
            elif name in self.function.slots and isinstance(value, str):
                values[name] = host().find(self.function.slots[name], value).load()
            else:
                values[name] = value
        return values

    def _choices(self, name: str) -> tuple[Any, ...]:
        """What a range chooses from: values that YAML writes in another way, such as tuples, are taken from here."""
        one = self.ranges[name]
        return one.ends if isinstance(one, Choices) else ()

    def _plain(self, name: str) -> Any:
        """The own value of a name."""
        slot, dot, option = name.partition(".")
        value = self.values[slot]
        if not dot:
            return written_slot(value)[0] if name in self.function.slots and value is not None else _plain(value)
        given = value.keywords if isinstance(value, functools.partial) else {}
        return _plain(given.get(option, self.function.parameter(name, self.values).default))


def space_of(
    function: RecipeFunction, values: Mapping[str, Any], fixed: Collection[str], given: Mapping[str, Range | str | None], name: str
) -> Space:
    """The recipe's own ranges, without those of what is fixed, under ranges that are given.

    values: all of the recipe's. fixed: parameters that were set by hand, also as "slot.option". given: ranges, or how they are typed; None
    leaves one out. A slot that is filled with another component than by default is searched in given ranges alone. name: the recipe's.
    Raises UserError for unknown names, for ranges that their parameter does not take, and for those of the data.
    """
    kept = {one: found for one, found in function.ranges.items() if not _settled(function, values, fixed, one)}
    ranges: dict[str, Range | None] = {**kept}
    for one, text in given.items():
        _check_name(function, values, one, name)
        ranges[one] = _typed(function, values, one, text, function.ranges.get(one), name) if isinstance(text, str) else text
    found = {one: range for one, range in ranges.items() if range is not None}
    for one in found:
        if "." in one and one.partition(".")[0] in found:
            slot = one.partition(".")[0]
            raise UserError(
                f"ranges are given of {slot} and of {one}, an option that not all that may fill it have; leave one of the two out"
            )
    return Space(function, values, found)


def _settled(function: RecipeFunction, values: Mapping[str, Any], fixed: Collection[str], name: str) -> bool:
    """Whether a declared range does not apply: its parameter was set, or its slot filled otherwise."""
    slot, dot, _ = name.partition(".")
    if name in fixed or slot in fixed:
        return True
    return bool(dot) and component_of(values[slot]) is not component_of(function.signature.parameters[slot].default)


def _check_name(function: RecipeFunction, values: Mapping[str, Any], name: str, recipe: str) -> None:
    slot = name.partition(".")[0]
    if name == "data" or (slot != name and slot in function.signature.parameters and slot not in function.slots):
        raise UserError(f"a range of {name} was given, and trials on other data cannot be compared; search the recipe's own parameters")
    try:
        function.parameter(name, values)
    except UserError:
        known = [f"{slot}.{option}" for slot in function.slots for option in _option_hints(values.get(slot)) if option != "return"]
        kind = f"parameter of {recipe} to search"
        raise unknown(kind, name, [*function.signature.parameters, *known], look=f"anyview show {recipe}") from None


def _option_hints(filling: Any) -> dict[str, Any]:
    """The types of what can be set of what fills a slot."""
    component = component_of(filling)
    return {} if component is None else typing.get_type_hints(component.__init__ if inspect.isclass(component) else component)


def _typed(function: RecipeFunction, values: Mapping[str, Any], name: str, text: str, declared: Range | None, recipe: str) -> Range:
    """A range as it was typed, its ends read as the parameter's flag reads them."""
    range = parsed(text, whole=_takes_whole(function, values, name), like=declared)
    parser = Parser(function.function, prog=f"anyview tune {recipe}")
    slot, _, option = name.partition(".")
    below = {slot: values[slot]} if option else {}
    read = []
    for end in range.ends:
        flag = f"--{name.replace('_', '-')}={end}"
        found = parser.parse([flag], defaults=below)[slot]
        read.append(found.keywords[option] if option else _component_name(found) if slot in function.slots else found)
    return Choices(*read) if isinstance(range, Choices) else range


def _component_name(filling: Any) -> Any:
    return None if filling is None else written_slot(filling)[0]


def _takes_whole(function: RecipeFunction, values: Mapping[str, Any], name: str) -> bool:
    """Whether a parameter takes whole numbers alone."""
    slot, _, option = name.partition(".")
    hint = _option_hints(values[slot]).get(option) if option else typing.get_type_hints(function.function).get(name)
    if takes_none(hint):
        hints = [one for one in typing.get_args(hint) if one is not types.NoneType]
        hint = hints[0] if len(hints) == 1 else None
    return hint is int


def _empty(slot: str, option: str) -> typing.NoReturn:
    raise UserError(f"{option} of {slot} is to be searched, and nothing fills the slot; name what does with --{slot}")


def _plain(value: Any) -> Any:
    return to_yaml({"value": value})["value"]


def written(ranges: Mapping[str, Range]) -> dict[str, str]:
    """Ranges as they are typed, by name.

    >>> from anyview.ranges import Integers, Uniform
    >>> written({"lr": Uniform(0.1, 1.0), "layers": Integers(1, 3)})
    {'lr': 'linear:0.1..1', 'layers': '1..3'}
    """
    return {name: str(range) for name, range in ranges.items()}
