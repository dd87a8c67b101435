"""`anyview demo`: every recipe with a preset "demo" learns on embedded data, and is held against its controls."""

from __future__ import annotations

from pathlib import Path

from anyview.config import parse_command
from anyview.console import make_console
from anyview.errors import UserError
from anyview.plugins import Component, host


def demo(*, out: str = "runs/demo", seeds: int = 3, overwrite: bool = False) -> None:
    """Train every installed recipe that has a demo, on data that needs no download, and print its scores beside the controls.

    Args:
        out: folder for the runs, one below it per recipe
        seeds: seeds of the probes
        overwrite: replace the runs of an earlier demo
    """
    from anyview.evaluation.protocol import table
    from anyview.training import pretrain

    if seeds < 1:
        raise UserError(f"--seeds takes at least 1, and was given {seeds}")
    recipes = _with_demo()
    if not recipes:
        raise UserError("no installed plugin has a demo; pip install 'anyview[all]'")
    printed = make_console()
    for component in recipes:
        folder = Path(out) / component.full_name.replace("/", "-")
        printed.rule(component.full_name)
        run = pretrain(component.full_name, folder, preset="demo", overwrite=overwrite, quiet=False)
        facts = ", ".join(f"{key} {value}" for key, value in run.source.describe().items())
        printed.print(f"{(component.load().__doc__ or '').partition(chr(10))[0]}\ndata: {facts}", soft_wrap=True)
        protocols = run.source.protocols or ("linear", "knn", "cluster")
        printed.print(table(run.evaluate(protocols, seeds=seeds), headlines=True))
        printed.print(f"the run is in {folder}", soft_wrap=True)


def run(arguments: list[str]) -> int:
    """Run every demo."""
    demo(**parse_command(demo, arguments, "anyview demo"))
    return 0


def _with_demo() -> list[Component]:
    """Recipes with a demo, of plugins whose dependencies are there."""
    return [component for component in host().components("recipes") if _has_demo(component)]


def _has_demo(component: Component) -> bool:
    from anyview.errors import MissingDependencyError

    try:
        return "demo" in component.load().presets
    except MissingDependencyError as missing:
        make_console().print(f"left out {component.full_name}: {missing}", soft_wrap=True)
        return False
