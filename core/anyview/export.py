"""A run's encoder as a file for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from anyview.errors import UserError
from anyview.folder import write_tensors

if TYPE_CHECKING:
    from anyview.run import Run


def export_safetensors(run: Run, path: Path) -> Path:
    """The embedder's weights, with the run's record (JSON) under "anyview" in the file's metadata.

    Raises UserError when the file exists or does not end in .safetensors.
    """
    if path.suffix != ".safetensors":
        ending = path.suffix or "nothing"
        raise UserError(f"{str(path)!r} ends in {ending!r}, and weights are exported as safetensors; name a .safetensors file")
    if path.exists():
        raise UserError(f"the file {str(path)!r} exists; choose another name")
    write_tensors(path, run.embedder.state_dict(), {"anyview": json.dumps(run.record)})
    return path
