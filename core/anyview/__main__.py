"""The command line, also as `python -m anyview`: the first word picks a file of `cli`, which does the rest.

Not in `cli/__init__.py`: there the submodule `list` would take the builtin's place as soon as it is imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from anyview.errors import UserError, unknown

COMMANDS = {
    "plugins": "what is installed, what is broken, what an extra would add",
    "list": "recipes, objectives, encoders, views, datasets, evaluations",
    "show": "one component: paper, flags with types and defaults, presets, reference results",
    "pretrain": "train a recipe on unlabelled data",
    "tune": "search a recipe's ranges at random, on validation data alone",
    "evaluate": "scores of a run beside its controls",
    "select": "the best of several runs, without labels",
    "embed": "rows for data, with a run's encoder",
    "export": "a run's encoder as a file for other programs",
    "demo": "every installed plugin learns something on small embedded data",
    "doctor": "versions, extras, devices, known clashes and their cure",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words)
    except UserError as error:
        print(f"anyview: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("anyview: interrupted", file=sys.stderr)
        return 130
    except SystemExit as leave:
        return int(leave.code or 0)
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"anyview {version('anyview')}")
        return 0
    command, *rest = words
    if command in COMMANDS:
        return importlib.import_module(f"anyview.cli.{command}").run(rest)
    return _plugin_command(command, rest)


def _plugin_command(command: str, rest: list[str]) -> int:
    """A verb that a plugin brings: its target is a function like `run` of the commands here."""
    from anyview.plugins import host

    brought = {component.name: component for component in host().components("commands")}
    if command not in brought:
        raise unknown("command", command, [*COMMANDS, *brought], look="anyview --help")
    return int(brought[command].load()(rest))


def _overview() -> str:
    from anyview.plugins import host

    lines = ["usage: anyview COMMAND [arguments]", ""]
    lines += ["Self-supervised learning for any data: pre-train, embed, and see how good it is.", ""]
    lines += [f"  {name:<10} {summary}" for name, summary in COMMANDS.items()]
    lines += [f"  {component.name:<10} (plugin {component.plugin})" for component in host().components("commands")]
    lines += ["", "`anyview COMMAND --help` shows a command's flags; `anyview pretrain RECIPE --help` a recipe's."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
