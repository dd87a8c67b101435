"""`anyview export DIR --to FILE.safetensors`."""

from __future__ import annotations

from anyview.config import parse_command


def export(folder: str, *, to: str) -> None:
    """A run's encoder as a file for other programs.

    Args:
        folder: the run
        to: a .safetensors file that does not exist yet; the run's record is in its metadata
    """
    from anyview.run import load

    path = load(folder).export(to)
    print(f"the encoder's weights are in {path}")


def run(arguments: list[str]) -> int:
    """Export a run's encoder."""
    export(**parse_command(export, arguments, "anyview export DIR"))
    return 0
