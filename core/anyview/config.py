"""From a function's signature to flags and YAML, and back.

A recipe's signature, a command's and an evaluation's are all read in one way: keyword parameters become `--flags`, positional ones
positions, types and defaults are the signature's own. A parameter typed as a callable that returns an Objective, Encoder, ViewMaker,
Combiner or Schedule is a slot: it takes a component's name, and its options follow as `--slot.option`. A slot that may be None takes null.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from anyview.errors import UserError, unknown
from anyview.plugins import host

SLOT_KINDS = {
    "Objective": "objectives",
    "Encoder": "encoders",
    "ViewMaker": "views",
    "Combiner": "combiners",
    "Schedule": "schedules",
}
EMPTY = ("null", "None")
"""What an empty slot is written as on a command line."""


class Parser:
    """Flags from the signatures of one or more functions.

    functions: their parameters must not share a name. prog: how the command is called, for help and messages. skip: parameters that are
    no flags.
    """

    def __init__(self, *functions: Callable[..., Any], prog: str, skip: Sequence[str] = (), description: str | None = None) -> None:
        self.prog = prog
        self.slots: dict[str, str] = {}
        self.optional: set[str] = set()
        self.switches: set[str] = set()
        self.sequences: set[str] = set()
        self.names: list[str] = []
        self.parser = ArgumentParser(exit_on_error=False, prog=prog, allow_abbrev=False, description=description, add_help=False)
        self.parser.add_argument("-h", "--help", action="store_true", help="show this help and leave")
        for function in functions:
            self.parser.add_function_arguments(function, as_group=False, as_positional=True, skip=set(skip))
            hints = typing.get_type_hints(function)
            for name, parameter in inspect.signature(function).parameters.items():
                if name in skip:
                    continue
                self.names.append(name)
                if hints.get(name) is bool:
                    self.switches.add(name)
                if is_sequence(hints.get(name)):
                    self.sequences.add(name)
                if kind := slot_kind(hints.get(name)):
                    self.slots[name] = kind
                    self.optional |= {name} if takes_none(hints[name]) else set()
                    if parameter.default is not parameter.empty:
                        self.parser.set_defaults({name: self._with_path(name, parameter.default)})

    def parse(self, arguments: Sequence[str], *, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The values of all parameters; raises UserError on the first mistake, and SystemExit(0) after printing help.

        defaults: values that take the place of the functions' own. A component that is named for a slot, in arguments or defaults, brings
        its own options and none of what filled the slot before; `--slot.option` alone changes what fills it.
        """
        written = [self._normalised(argument, i, arguments) for i, argument in enumerate(arguments)]
        if {"-h", "--help"} & set(written):
            print(self.help())
            raise SystemExit(0)
        self._check_flags(written)
        try:
            self._put_below({name: self._with_path(name, value) for name, value in (defaults or {}).items()})
            self.parser.set_defaults(self._named_slots(written))
            found = self.parser.parse_args([word for word in written if word]).as_dict()
        except ArgumentError as error:
            raise UserError(self._sentence(str(error))) from error
        return {name: self._value(name, found.get(name)) for name in self.names}

    def given(self, arguments: Sequence[str]) -> set[str]:
        """The parameters that a command line names itself; a slot of which it sets options alone is none of them."""
        flags = {argument[2:].partition("=")[0].replace("-", "_") for argument in arguments if argument.startswith("--")}
        return flags | {flag.removeprefix("no_") for flag in flags}

    def without_slot_options(self, arguments: Sequence[str]) -> list[str]:
        """A command line without the options of slots, which can be read before it is settled what fills them."""
        kept: list[str] = []
        words = iter(arguments)
        for word in words:
            flag, equals, _ = word.partition("=")
            slot, dot, _ = flag.removeprefix("--").replace("-", "_").partition(".")
            if not (word.startswith("--") and dot and slot in self.slots):
                kept.append(word)
            elif not equals:
                next(words, None)
        return kept

    def help(self) -> str:
        """The help text, with flags as they are typed."""
        text = self.parser.format_help().replace("ARG:   ", "").replace("ENV:   ", "")
        text = re.sub(r"^ +--\w+\.help.*\n(?: {20,}.*\n)*", "", text, flags=re.MULTILINE)
        return re.sub(r"--[a-z_.]+(?: [A-Z_]+\b)?", lambda flag: flag.group().replace("_", "-"), text)

    def _put_below(self, values: Mapping[str, Any]) -> None:
        """Let values stand in the place of defaults; those of slots without the options that the defaults had."""
        if not values:
            return
        self.parser.set_defaults({slot: {**values[slot], "init_args": {}} for slot in self.slots if values.get(slot) is not None})
        below = self.parser.parse_object(dict(values))
        self.parser.set_defaults({name: below[name] for name in values})

    def _named_slots(self, arguments: Sequence[str]) -> dict[str, Any]:
        """The components that a normalised command line names for slots, without options."""
        named: dict[str, Any] = {}
        for position, word in enumerate(arguments):
            slot, equals, value = word.removeprefix("--").partition("=")
            value = value if equals else next(iter(arguments[position + 1 :]), "")
            if word.startswith("--") and slot in self.slots and value not in EMPTY:
                named[slot] = {"class_path": value, "init_args": {}}
        return named

    def _normalised(self, argument: str, position: int, arguments: Sequence[str]) -> str:
        """One word of the command line as the parser knows it: underscores, switches with a value, values as `_written` says."""
        before = arguments[position - 1] if position else ""
        if not argument.startswith("--"):
            name = before[2:].replace("-", "_") if before.startswith("--") and "=" not in before else ""
            return self._written(name, argument)
        flag, equals, value = argument[2:].partition("=")
        name = flag.replace("-", "_")
        if name.removeprefix("no_") in self.switches and name not in self.switches:
            return f"--{name.removeprefix('no_')}=false"
        following = arguments[position + 1] if position + 1 < len(arguments) else ""
        if name in self.switches and not equals and following.lower() not in ("true", "false"):
            return f"--{name}=true"
        return f"--{name}{equals}{self._written(name, value) if equals else value}"

    def _written(self, name: str, value: str) -> str:
        """A flag's value as the parser knows it: components by their import paths, lists in brackets."""
        if name in self.slots:
            return self._import_path(name, value)
        if name in self.sequences and value not in EMPTY and not value.startswith("["):
            return f"[{value}]"
        return value

    def _import_path(self, slot: str, name: str) -> str:
        if name in EMPTY and slot in self.optional:
            return name
        return host().find(self.slots[slot], name).target.replace(":", ".")

    def _check_flags(self, arguments: Sequence[str]) -> None:
        for argument in arguments:
            name = argument[2:].partition("=")[0]
            if argument.startswith("--") and name.partition(".")[0] not in [*self.names, "help"]:
                flags = ["--" + known.replace("_", "-") for known in self.names]
                raise unknown("flag", "--" + name.replace("_", "-"), flags, look=f"{self.prog} --help")

    def _with_path(self, name: str, value: Any) -> Any:
        """A slot's value as the parser takes it."""
        if name not in self.slots or value is None:
            return value
        component, options = written_slot(value)
        return {"class_path": self._import_path(name, component), "init_args": options}

    def _value(self, name: str, value: Any) -> Any:
        """A parsed value as the function takes it: slots become callables that wait for a width."""
        if name not in self.slots or value is None:
            return value
        component = host().by_target(self.slots[name], value["class_path"])
        return functools.partial(component.load(), **value.get("init_args", {}))

    def _sentence(self, message: str) -> str:
        """A parser's message, of one or more lines, as one sentence that names the flag."""
        lines = [line.strip().rstrip(".") for line in message.splitlines() if line.strip()]
        key = re.search(r'Parser key "([\w.]+)"', lines[0])
        flag = f"--{key.group(1).replace('_', '-')}" if key else ""
        if option := re.search(r"Option '([\w.]+)' is not accepted", message):
            return self._slot_sentence(flag, option.group(1), message)
        if lacking := re.search(r"arguments are required: ([\w, ]+)", message):
            if not flag:
                return f"{lacking.group(1)} must be given; see `{self.prog} --help`"
            return f"what was put into {flag} also needs {lacking.group(1)}, which the recipe does not give; see `{self.prog} --help`"
        if count := re.search(r"Expected a tuple with (\d+) elements", message):
            given = re.search(r"(?:Given|Got) value: (\[.*?\])", message)
            had = f", and was given {given.group(1)}" if given else ""
            return f"{flag} takes {count.group(1)} values with commas between them{had}; see `{self.prog} --help`"
        if len(lines) > 1 and (wrong := re.search(r"Expected an? (.+?)\. Got value: (.*?)(?:\. Got value: |$)", message, re.M)):
            kind = re.sub(r"<class '([\w.]+)'>", r"\1", wrong.group(1))
            kind = re.sub(r"^(tuple|list|Sequence)$", "values with commas between them", kind)
            kind = re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", kind)
            return f"{flag} takes {kind}, and was given {wrong.group(2)!r}; see `{self.prog} --help`"
        if len(lines) > 1 and (value := re.search(r"Got value: (.*)", message)):
            return f"{flag} does not take {value.group(1)!r}: {lines[1].partition('. Got value')[0]}; see `{self.prog} --help`"
        return f"{' '.join(lines)}; see `{self.prog} --help`"

    def _slot_sentence(self, flag: str, option: str, message: str) -> str:
        path = re.search(r"class_path='([\w.]+)'", message)
        slot = flag.removeprefix("--").replace("-", "_")
        component = host().by_target(self.slots[slot], path.group(1)) if path else None
        known = list(inspect.signature(component.load()).parameters)[1:] if component else []
        name = component.full_name if component else slot
        return str(unknown(f"option of {name}", option, known, look=f"anyview show {name}"))


def parse_command(function: Callable[..., Any], arguments: Sequence[str], prog: str) -> dict[str, Any]:
    """The keyword arguments that a command line gives to a command's function."""
    description = (inspect.getdoc(function) or "").partition("\n")[0]
    return Parser(function, prog=prog, description=description).parse(arguments)


def slots_of(function: Callable[..., Any]) -> dict[str, str]:
    """A function's parameters that are slots, with the kind of component that each takes."""
    kinds = {name: slot_kind(hint) for name, hint in typing.get_type_hints(function).items() if name != "return"}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def slot_kind(hint: Any) -> str | None:
    """The kind of component that a parameter of this type takes, None for ordinary parameters."""
    if takes_none(hint):
        return next(filter(None, map(slot_kind, typing.get_args(hint))), None)
    if typing.get_origin(hint) is not collections.abc.Callable:
        return None
    result = typing.get_args(hint)[-1]
    names = {base.__name__ for base in getattr(result, "__mro__", ())}
    return next((kind for name, kind in SLOT_KINDS.items() if name in names), None)


def is_sequence(hint: Any) -> bool:
    """Whether a type is a list or a tuple, which a command line writes with commas; or a union of one with None.

    >>> is_sequence(tuple[float, float]), is_sequence(list[str] | None), is_sequence(str)
    (True, True, False)
    """
    if takes_none(hint):
        return any(map(is_sequence, typing.get_args(hint)))
    return typing.get_origin(hint) in (list, tuple, collections.abc.Sequence)


def takes_none(hint: Any) -> bool:
    """Whether a type is a union with None.

    >>> takes_none(float | None), takes_none(float)
    (True, False)
    """
    return typing.get_origin(hint) in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint)


def written_slot(value: Any) -> tuple[str, dict[str, Any]]:
    """A slot's component and options, from what a YAML file or Python code says.

    value: "core/vicreg", {"name": "core/vicreg", option: value}, a class, or a functools.partial of one.
    Raises UserError for a callable that no plugin registers: it could not be found again.
    """
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping):
        options = dict(value)
        if not isinstance(options.get("name"), str):
            raise UserError(f"a slot is filled by a component's name, and {options} gives none; add a key such as `name: core/vicreg`")
        return options.pop("name"), options
    target = value.func if isinstance(value, functools.partial) else value
    options = dict(value.keywords) if isinstance(value, functools.partial) else {}
    component = host().name_of(target)
    if component is None:
        raise UserError(f"{target!r} fills a slot and belongs to no plugin, so the run could not be loaded again; register it in a plugin")
    return component, options


def component_of(value: Any) -> Callable[..., Any] | None:
    """The class or function that fills a slot, without the options that it was given; None for an empty slot and for a name.

    >>> component_of(functools.partial(dict, a=1)), component_of(None)
    (<class 'dict'>, None)
    """
    target = value.func if isinstance(value, functools.partial) else value
    return target if callable(target) else None


def to_yaml(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as plain YAML: components by full name, sources by their name, tuples as lists."""
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if callable(value):
        component, options = written_slot(value)
        return {"name": component, **to_yaml(options)} if options else component
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(getattr(value, "name", value))


def from_yaml(function: Callable[..., Any], values: Mapping[str, Any], prog: str) -> dict[str, Any]:
    """Saved values as the function takes them, checked against its signature: unknown keys and wrong types raise UserError."""
    parser = Parser(function, prog=prog)
    for name in map(str, values):
        if name not in parser.names:
            raise unknown("key (in the configuration)", name, parser.names, look=f"{prog} --help")
    hints = typing.get_type_hints(function)
    for name, value in values.items():
        if value is None and not takes_none(hints.get(name)):
            raise UserError(f"the key {name!r} is empty in the configuration; give it a value, or leave it out")
    return parser.parse([], defaults=values)
