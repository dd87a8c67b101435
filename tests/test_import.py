"""What a newcomer pays before anything is trained: imports stay light."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "sklearn", "scipy.stats", "jsonargparse", "rich", "lightning_fabric", "torch_geometric")


def loaded_by(code: str) -> set[str]:
    """The heavy packages that are imported when `code` has run in a fresh interpreter."""
    tell = f"import sys, json; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import anyview",
        "import anyview.plugins; anyview.plugins.host()",
        "from anyview.__main__ import main; main(['--help'])",
        "from anyview.__main__ import main; main(['--version'])",
        "from anyview.__main__ import main; main(['pretrian'])",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert loaded_by(code) == set()


@pytest.mark.parametrize("recipe", ["graphs/graphmae", "images/pair", "recommenders/sasrec", "timeseries/pair"])
def test_a_recipe_that_is_shown_brings_no_statistics(recipe: str) -> None:
    """Protocols need them, and take a second to import."""
    assert loaded_by(f"from anyview.__main__ import main; main(['show', {recipe!r}])") & {"sklearn", "scipy.stats"} == set()


def test_public_names() -> None:
    import anyview
    import anyview.training  # a submodule that is imported later must not take a public name's place

    assert callable(anyview.pretrain)
    assert callable(anyview.load)
    assert anyview.Run.__name__ == "Run"
    assert issubclass(anyview.UserError, Exception)
    with pytest.raises(AttributeError, match="no attribute 'pretraining'"):
        _ = anyview.pretraining
