"""`anyview list [KIND] [PATTERN]`: every component that is named in a recipe or on a command line, a line each."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from anyview.config import parse_command
from anyview.console import make_console, make_table, print_json
from anyview.errors import UserError, unknown
from anyview.plugins import Component, first_line, host

LISTED = ("recipes", "objectives", "encoders", "views", "combiners", "schedules", "datasets", "evaluations")
TAKES_VALUE = ("--kind", "--pattern", "--for-plugin", "--tag")
ONE_LINE = 10_000


@dataclass
class Row:
    """One component as it is listed; problem: why it cannot be loaded. fits: by view maker, what an objective misses there."""

    kind: str
    name: str
    summary: str = ""
    tags: tuple[str, ...] = ()
    needs: str = ""
    problem: str = ""
    fits: dict[str, list[str]] | None = None


def list_components(*, kind: str = "", pattern: str = "", for_plugin: str = "", tag: str = "", json: bool = False) -> None:
    """List components: `anyview list [KIND] [PATTERN]`, as in `anyview list objectives "*vic*" --for graphs`.

    Args:
        kind: recipes, objectives, encoders, views, combiners, schedules, datasets or evaluations; all of them by default.
        pattern: Show names that hold this text, or match it where it has * or ?.
        for_plugin: Say which objectives the view makers of this plugin can serve, and what the others miss (short: --for).
        tag: Show objectives with this tag.
        json: Print JSON for other programs.
    """
    kinds = [kind_of(kind)] if kind else ["objectives"] if for_plugin or tag else list(LISTED)
    if (for_plugin or tag) and kinds != ["objectives"]:
        raise UserError(f"--for and --tag are about objectives, and the kind is {kinds[0]!r}; say `anyview list objectives`")
    makers = view_makers(for_plugin) if for_plugin else {}
    chosen = [component for one in kinds for component in host().components(one) if matches(component, pattern)]
    rows = [describe(component, makers) for component in chosen]
    if tag:
        rows = tagged(rows, tag)
    if json:
        print_json([asdict(row) for row in rows])
    elif rows:
        _print(rows, [one for one in kinds if any(row.kind == one for row in rows)])
    else:
        print(f"there are no {' or '.join(kinds)}" + (f" with a name like {pattern!r}" if pattern else ""))


def run(arguments: list[str]) -> int:
    """The command; KIND and PATTERN may stand anywhere among the flags."""
    list_components(**parse_command(list_components, _named(arguments), "anyview list"))
    return 0


def kind_of(word: str) -> str:
    """A kind from its plural or singular ("recipe"); raises UserError for anything else."""
    for kind in LISTED:
        if word.lower() in (kind, kind.removesuffix("s")):
            return kind
    raise unknown("kind", word, LISTED, look="anyview list --help")


def matches(component: Component, pattern: str) -> bool:
    """Whether the pattern occurs in the full name, or matches it or the short one as a wildcard."""
    if any(sign in pattern for sign in "*?["):
        return any(fnmatch.fnmatchcase(name, pattern) for name in (component.full_name, component.name))
    return pattern.lower() in component.full_name.lower()


def view_makers(plugin: str) -> dict[str, Any]:
    """What each view maker of a plugin gives, by full name; those that cannot be loaded are left out, unless that leaves none."""
    known = [report.name for report in host().reports if report.status == "ok"]
    if plugin not in known:
        raise unknown("plugin", plugin, known, look="anyview plugins")
    gives: dict[str, Any] = {}
    problems = []
    for component in host().components("views"):
        if component.plugin == plugin:
            try:
                gives[component.full_name] = component.load().gives
            except Exception as error:
                problems.append(reason(error))
    if not gives:
        raise UserError(problems[0] if problems else f"the plugin {plugin!r} has no view makers to hold objectives against")
    return gives


def describe(component: Component, makers: dict[str, Any]) -> Row:
    """A component's row; one that cannot be loaded says why."""
    row = Row(component.kind, component.full_name)
    try:
        thing = component.load()
        row.summary = first_sentence(thing.__doc__ or "")
        if component.kind == "objectives":
            row.tags, row.needs = tuple(thing.tags), stated_needs(thing.needs)
            row.fits = {name: thing.needs.missing(gives) for name, gives in makers.items()} if makers else None
    except Exception as error:  # a listing shows what is ill, whatever the illness
        row.problem = reason(error)
    return row


def tagged(rows: list[Row], tag: str) -> list[Row]:
    """The rows with a tag; raises UserError for a tag that none has."""
    known = sorted({one for row in rows for one in row.tags})
    if tag not in known:
        raise unknown("tag", tag, known, look="anyview list objectives")
    return [row for row in rows if tag in row.tags]


def reason(error: Exception) -> str:
    """Why something cannot be loaded: a user's error is a sentence already."""
    return str(error) if isinstance(error, UserError) else first_line(error)


def first_sentence(text: str) -> str:
    """The first sentence of a docstring.

    >>> first_sentence("Hide nodes, as Hou et al. 2022 do. Then rebuild them.")
    'Hide nodes, as Hou et al. 2022 do.'
    """
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])(?<!al\.)(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z])", paragraph)[0]


def stated_needs(needs: Any) -> str:
    """An objective's needs that are not the default, as words: "2 views, teacher"."""
    words = [f"{needs.views} views"] if needs.views > 1 else []
    for field in fields(needs):
        value = getattr(needs, field.name)
        if value is True and field.name != "couples_rows":
            words.append(field.name)
        elif isinstance(value, tuple) and value:
            words.append(f"{field.name} {'/'.join(value)}")
    return ", ".join(words)


def verdict(fits: dict[str, list[str]]) -> str:
    """Which view makers serve an objective: "yes (graphs/a, graphs/b)", or what the nearest one misses."""
    served = [name for name, lacks in fits.items() if not lacks]
    if served:
        return f"yes ({', '.join(served)})"
    nearest_maker = min(fits, key=lambda name: len(fits[name]))
    return f"no: misses {', '.join(fits[nearest_maker])} ({nearest_maker})"


def _named(arguments: list[str]) -> list[str]:
    """KIND and PATTERN, wherever they stand, as flags."""
    flags = {argument.partition("=")[0] for argument in arguments}
    words = [flag for flag in ("--kind", "--pattern") if flag not in flags]
    named, before = [], ""
    for argument in arguments:
        argument = re.sub(r"^--for(?=$|=)", "--for-plugin", argument)
        if not argument.startswith("-") and before not in TAKES_VALUE and words:
            argument = f"{words.pop(0)}={argument}"
        named.append(argument)
        before = argument
    return named


def _print(rows: list[Row], kinds: list[str]) -> None:
    console = make_console(pipe_width=ONE_LINE)
    for position, kind in enumerate(kinds):
        extra = ["tags", "needs"] if kind == "objectives" else []
        with_fits = any(row.fits is not None for row in rows)
        table = make_table(kind, "", *extra, *(["served"] if with_fits else []))
        for row in (row for row in rows if row.kind == kind):
            cells = [", ".join(row.tags), row.needs] if extra else []
            fits = [verdict(row.fits) if row.fits is not None else ""] if with_fits else []
            table.add_row(row.name, f"cannot be loaded: {row.problem}" if row.problem else row.summary, *cells, *fits)
        if position:
            console.print()
        console.print(table)
