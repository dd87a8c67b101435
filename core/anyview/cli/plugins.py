"""`anyview plugins`: what is installed, what is broken, what an extra would add."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from anyview.config import parse_command
from anyview.console import make_console, make_table, print_json
from anyview.extras import Extra, extras
from anyview.plugins import KINDS, PluginReport, host


def plugins(*, json: bool = False) -> None:
    """Show the installed plugins, with what they add, and the extras that are not installed.

    Args:
        json: Print JSON for other programs.
    """
    lacking = {extra.install: extra for extra in extras() if extra.lacks}
    if json:
        print_json({"plugins": [_plugin(report, lacking) for report in host().reports], "extras": [_extra(extra) for extra in extras()]})
        return
    console = make_console()
    table = make_table("plugin", "distribution", "status", "adds", "to know")
    for report in host().reports:
        plugin = _plugin(report, lacking)
        status = Text(report.status, style="green" if report.status == "ok" else "red")
        table.add_row(report.name, f"{report.distribution} {report.version}", status, _counted(plugin["adds"]), _remark(report, lacking))
    console.print(table)
    if lacking:
        console.print()
        missing = make_table("extra", "would add", "misses", "to install")
        for extra in lacking.values():
            missing.add_row(extra.name, _would_add(extra), ", ".join(extra.lacks), f"pip install '{extra.install}'")
        console.print(missing)


def adds(plugin: str) -> dict[str, int]:
    """How many components of each kind a plugin declares."""
    counts = {kind: sum(component.plugin == plugin for component in host().components(kind)) for kind in KINDS}
    return {kind: count for kind, count in counts.items() if count}


def run(arguments: list[str]) -> int:
    """The command; broken plugins are its content, not its failure."""
    plugins(**parse_command(plugins, arguments, "anyview plugins"))
    return 0


def _plugin(report: PluginReport, lacking: dict[str, Extra]) -> dict[str, Any]:
    works = report.status == "ok"
    return {
        "name": report.name,
        "distribution": report.distribution,
        "version": report.version,
        "module": report.module,
        "status": report.status,
        "problem": report.problem,
        "adds": adds(report.name) if works else {},
        "misses": lacking[report.install].lacks if works and report.install in lacking else [],
    }


def _extra(extra: Extra) -> dict[str, Any]:
    provider = _provider(extra)
    return {
        "name": extra.name,
        "install": extra.install,
        "installed": not extra.lacks,
        "misses": extra.lacks,
        "adds": adds(provider.name) if provider else {},
    }


def _provider(extra: Extra) -> PluginReport | None:
    """The plugin whose dependencies the extra installs."""
    return next((report for report in host().reports if report.status == "ok" and report.install == extra.install), None)


def _remark(report: PluginReport, lacking: dict[str, Extra]) -> str:
    if report.status == "ok" and report.install in lacking:
        return f"needs {', '.join(lacking[report.install].lacks)}: pip install '{report.install}'"
    return report.problem


def _would_add(extra: Extra) -> str:
    provider = _provider(extra)
    return _counted(adds(provider.name)) if provider else ", ".join(package.name for package in extra.packages)


def _counted(counts: dict[str, int]) -> str:
    """ "2 recipes, 1 encoder"."""
    return ", ".join(f"{count} {kind if count > 1 else kind.removesuffix('s')}" for kind, count in counts.items()) or "nothing"
