"""Plugins: how a distribution adds recipes, objectives and data sets to anyview, and how they are found and loaded.

A plugin is a module under an entry point of the group `anyview`. It imports nothing heavy and only declares; it is no package with rooms
named like the hooks, because importing the submodule `views` of a package puts the module in the place of a function of that name:

    from anyview.plugins import hookimpl

    api = 1

    @hookimpl
    def recipes() -> dict[str, str]:
        return {"graphmae": "anyview_graphs.recipes.graphmae:graphmae"}
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from types import ModuleType
from typing import Any

import pluggy

from anyview.errors import MissingDependencyError, UserError, nearest, unknown
from anyview.tolerance import tolerate_torchaudio

API = 1
GROUP = "anyview"
CORE = "core"
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")
SINGULAR = {
    "views": "view maker",
    "encoders": "encoder",
    "objectives": "objective",
    "combiners": "combiner",
    "schedules": "schedule",
    "recipes": "recipe",
    "datasets": "data set",
    "evaluations": "evaluation",
    "commands": "command",
}
KINDS = tuple(SINGULAR)

hookspec = pluggy.HookspecMarker("anyview")
hookimpl = pluggy.HookimplMarker("anyview")


class Hooks:
    """What a plugin may declare; every hook returns name -> "module:attribute", the place where the thing itself is defined."""

    @hookspec
    def views(self) -> dict[str, str]:
        """View makers: classes of anyview.views.maker.ViewMaker."""
        return {}

    @hookspec
    def encoders(self) -> dict[str, str]:
        """Encoders: classes of anyview.encoders.encoder.Encoder."""
        return {}

    @hookspec
    def objectives(self) -> dict[str, str]:
        """Objectives: classes of anyview.objectives.objective.Objective."""
        return {}

    @hookspec
    def combiners(self) -> dict[str, str]:
        """Ways from several losses to one gradient: classes of anyview.combiners.combiner.Combiner."""
        return {}

    @hookspec
    def schedules(self) -> dict[str, str]:
        """Numbers that change over training: classes of anyview.schedules.Schedule."""
        return {}

    @hookspec
    def recipes(self) -> dict[str, str]:
        """Recipes: functions decorated with anyview.recipe.recipe."""
        return {}

    @hookspec
    def datasets(self) -> dict[str, str]:
        """Data sets: functions that return an anyview.data.source.Source."""
        return {}

    @hookspec
    def evaluations(self) -> dict[str, str]:
        """Evaluation protocols: functions from an embedding and its source to scores."""
        return {}

    @hookspec
    def commands(self) -> dict[str, str]:
        """The plugin's own verbs: functions from a list of arguments to an exit code."""
        return {}


@dataclass(frozen=True, slots=True)
class Component:
    """One thing that a plugin adds; nothing of it is imported before `load`.

    kind: the hook that declared it. target: "module:attribute". install: what pip has to install for its dependencies.
    """

    kind: str
    plugin: str
    name: str
    target: str
    install: str = ""

    @property
    def full_name(self) -> str:
        """The name that no other plugin can have: "graphs/graphmae"."""
        return f"{self.plugin}/{self.name}"

    def load(self) -> Any:
        """The class or function itself.

        Raises MissingDependencyError when a package that it imports is not installed, UserError when the target does not exist.
        """
        tolerate_torchaudio()
        module_name, _, attribute = self.target.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise self._explain(error, module_name) from error
        try:
            return attrgetter(attribute)(module)
        except AttributeError as error:
            raise self._dangling(f"{module_name} has no {attribute!r}") from error

    def _explain(self, error: ModuleNotFoundError, module_name: str) -> Exception:
        missing = error.name or ""
        if f"{module_name}.".startswith(f"{missing}."):
            return self._dangling(f"there is no module {missing!r}")
        if not missing or missing.partition(".")[0] in {module_name.partition(".")[0], "anyview"}:
            return error
        cure = f"pip install '{self.install}'"
        return MissingDependencyError(f"{self.full_name} needs the package {missing!r}, which is not installed; {cure}")

    def _dangling(self, found: str) -> UserError:
        kind = SINGULAR[self.kind]
        return UserError(
            f"the plugin {self.plugin!r} declares the {kind} {self.name!r} at {self.target!r}, but {found}; report it to its author"
        )


@dataclass(frozen=True, slots=True)
class PluginReport:
    """What became of one entry point: status "ok", "broken" or "clash", and for the last two one sentence that says why.

    install: what pip has to install for the plugin's dependencies.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: str = "ok"
    problem: str = ""
    install: str = ""


class BrokenPluginError(Exception):
    """A plugin does not keep the contract; the sentence says where."""


class Host:
    """All installed plugins: the core's own first, the others by name; what one does wrong never reaches another.

    reports: one per entry point, in the order of loading.
    """

    def __init__(self, entries: Iterable[EntryPoint] | None = None) -> None:
        self.reports: list[PluginReport] = []
        self._components: dict[str, list[Component]] = {kind: [] for kind in KINDS}
        self._names: dict[str, str] = {}
        for entry in sorted(entry_points(group=GROUP) if entries is None else entries, key=_order):
            self._register(entry)
        for components in self._components.values():
            self._names.update({component.target: component.full_name for component in reversed(components)})

    def _register(self, entry: EntryPoint) -> None:
        report = PluginReport(entry.name, *_distribution(entry), entry.value)
        taken = next((r for r in self.reports if r.name == entry.name and (r.status == "ok" or r.name == CORE)), None)
        if taken is not None:
            problem = f"the name {entry.name!r} already belongs to the plugin of {taken.distribution}; uninstall one of the two"
            self.reports.append(replace(report, status="clash", problem=problem))
            return
        try:
            plugin, components = _declared(entry, report.distribution)
        except BrokenPluginError as error:
            self.reports.append(replace(report, status="broken", problem=str(error)))
            return
        self.reports.append(replace(report, install=plugin))
        for component in components:
            self._components[component.kind].append(component)

    def components(self, kind: str) -> list[Component]:
        """All components of a kind ("recipes", "objectives", ...), the core's first."""
        return list(self._components[kind])

    def find(self, kind: str, name: str, prefer: str | None = None) -> Component:
        """The component of a full or short name; a short name needs to be one plugin's alone.

        prefer: the plugin whose component wins where several share the short name; after it the core's. Raises UserError when nobody or
        several have the name.
        """
        components = self._components[kind]
        matches = [component for component in components if name in (component.full_name, component.name)]
        if len(matches) > 1 and prefer is not None:
            ranked = {component.plugin: component for component in matches}
            matches = [ranked[plugin] for plugin in (prefer, CORE) if plugin in ranked][:1] or matches
        if not matches:
            raise self._unknown(kind, name)
        if len(matches) > 1:
            choices = " or ".join(component.full_name for component in matches)
            raise UserError(f"several plugins have a {SINGULAR[kind]} {name!r}; say which: {choices}")
        return matches[0]

    def _unknown(self, kind: str, name: str) -> UserError:
        plugin = name.partition("/")[0]
        report = next((r for r in self.reports if r.name == plugin), None)
        if "/" in name and report is not None and report.status != "ok":
            return UserError(f"there is no {SINGULAR[kind]} {name!r}, because the plugin {plugin!r} is broken: {report.problem}")
        known = [word for component in self._components[kind] for word in (component.full_name, component.name)]
        return unknown(SINGULAR[kind], name, known, look="anyview --help" if kind == "commands" else f"anyview list {kind}")

    def by_target(self, kind: str, path: str) -> Component:
        """The component that is declared at an import path, "module:attribute" or "module.attribute"; raises UserError when none is."""
        dotted = path.replace(":", ".")
        for component in self._components[kind]:
            if component.target.replace(":", ".") == dotted:
                return component
        raise UserError(f"no plugin declares the {SINGULAR[kind]} {path!r}; `anyview list {kind}` shows what there is")

    def name_of(self, thing: Any) -> str | None:
        """The full name of a component's class or function; None for one that no plugin declares."""
        return self._names.get(f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}")


@functools.cache
def host() -> Host:
    """The host of this process, made on first use."""
    return Host()


def first_line(error: BaseException) -> str:
    """An error's type and the first line of its message, as they stand at the end of a sentence."""
    message = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _order(entry: EntryPoint) -> tuple[bool, str, str]:
    own = (entry.name, entry.value) == (CORE, "anyview.components")
    return (not own, entry.name, _distribution(entry)[0])


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    return (entry.dist.name, entry.dist.version) if entry.dist is not None else ("unknown", "unknown")


def _declared(entry: EntryPoint, distribution: str) -> tuple[str, list[Component]]:
    """What pip has to install for the plugin, and its components; every fault of the plugin becomes a BrokenPluginError."""
    try:
        module = entry.load()
    except (Exception, SystemExit) as error:
        raise BrokenPluginError(f"the module {entry.value!r} cannot be imported ({first_line(error)})") from error
    api = getattr(module, "api", None)
    if api != API:
        found = "it says none" if api is None else f"it says {api!r}"
        raise BrokenPluginError(
            f"the module {entry.value!r} must say `api = {API}`, and {found}; install a version of it made for this anyview"
        )
    install = str(getattr(module, "install", distribution))
    components = [
        Component(kind, entry.name, name, target, install)
        for kind, names in _hook_results(module).items()
        for name, target in names.items()
    ]
    return install, components


def _hook_results(module: Any) -> dict[str, dict[str, str]]:
    """Each hook's answer; a manager per plugin, because one that holds them all falls with the first that fails."""
    manager = pluggy.PluginManager("anyview")
    manager.add_hookspecs(Hooks)
    try:
        manager.register(module)
    except Exception as error:
        raise BrokenPluginError(f"its hooks cannot be registered ({first_line(error)})") from error
    shadowed = [kind for kind in KINDS if isinstance(getattr(module, kind, None), ModuleType)]
    if shadowed:
        raise BrokenPluginError(
            f"its submodule {shadowed[0]!r} has taken the place of the hook {shadowed[0]!r}; declare hooks in a module without submodules"
        )
    callers = manager.get_hookcallers(module) or []
    for caller in callers:
        if not caller.has_spec():
            close = nearest(caller.name, KINDS, most=1)
            hint = f"did you mean {close[0]!r}" if close else f"there are {', '.join(KINDS)}"
            raise BrokenPluginError(f"it declares the hook {caller.name!r}, which anyview does not have; {hint}")
    return {caller.name: _answer(caller) for caller in callers}


def _answer(caller: pluggy.HookCaller) -> dict[str, str]:
    try:
        results = caller()
    except (Exception, SystemExit) as error:
        raise BrokenPluginError(f"its hook {caller.name!r} fails ({first_line(error)})") from error
    answer = results[0] if results else None  # pluggy leaves a None out
    if not isinstance(answer, dict):
        found = type(answer).__name__
        raise BrokenPluginError(f"its hook {caller.name!r} must return a dict of name to 'module:attribute', and returned {found}")
    for name, target in answer.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise BrokenPluginError(f"its hook {caller.name!r} gives the name {name!r}; a name is letters, digits, '_', '-' and '.'")
        if not isinstance(target, str) or not TARGET.fullmatch(target):
            raise BrokenPluginError(f"its hook {caller.name!r} gives {name!r} the target {target!r}; a target is 'module:attribute'")
    return answer
