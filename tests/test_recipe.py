"""Recipe functions: which objectives their slots take."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from anyview.__main__ import main
from anyview.data.arrays import ArraySource
from anyview.encoders.mlp import MLP
from anyview.encoders.moving_average import MovingAverage
from anyview.errors import UserError
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.byol import BYOL
from anyview.objectives.dino import DINO
from anyview.objectives.objective import Losses, Needs, Objective, ObjectiveSlot, Step
from anyview.recipe import Recipe, RecipeFunction, Stage, Task, recipe
from anyview.testing.tiny import sgd, tiny_batch
from anyview.training import pretrain
from anyview.views.mask import MaskRows
from anyview.views.noise import NoisePair
from tests.command import SMALL

opened: list[str] = []


class Rebuilds(Objective):
    """Needs what MaskRows gives."""

    needs = Needs(masks=True, targets=True)

    def __init__(self, dim: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, step: Step) -> Losses:
        return Losses(size=self.scale * step.encode(step.views[0]).rows.square().mean())


class Many(Rebuilds):
    """Needs more than either of them gives."""

    needs = Needs(views=3, masks=True)


def slotted(views: Any) -> RecipeFunction:
    """A recipe that notes when it opens its data, and masks rows for objectives that need masks."""

    @recipe(views=views)
    def either(*, objective: ObjectiveSlot | None = BarlowTwins) -> Recipe:
        opened.append("data")
        encoder = MLP(12, hidden=8, dim=8, layers=2, masked=True)
        made = (objective or BarlowTwins)(8)
        task = Task(MaskRows(0.5) if made.needs.masks else NoisePair(0.1), made)
        return Recipe(ArraySource(tiny_batch().data), [Stage([task], encoder, epochs=1, optimizer=sgd)], encoder)

    return either


@pytest.fixture(autouse=True)
def _nothing_opened() -> None:
    opened.clear()


def test_one_view_maker_or_several_may_be_named() -> None:
    assert slotted(NoisePair).views == (NoisePair,)
    assert slotted([NoisePair, MaskRows]).views == (NoisePair, MaskRows)
    assert slotted(()).views == ()
    assert slotted(NoisePair).slots == {"objective": "objectives"}


@pytest.mark.parametrize("slot", [Rebuilds, functools.partial(Rebuilds, scale=2.0)])
def test_one_of_several_view_makers_must_serve_an_objective(slot: Callable[[int], Objective]) -> None:
    both = slotted((NoisePair, MaskRows))
    assert isinstance(both(objective=slot).stages[0].tasks[0].views, MaskRows)
    assert isinstance(both(objective=functools.partial(BarlowTwins, width=8)).stages[0].tasks[0].views, NoisePair)
    assert both.nearest_views(Rebuilds.needs) is MaskRows
    assert both.nearest_views(BarlowTwins.needs) is NoisePair
    opened.clear()
    with pytest.raises(UserError, match="Rebuilds needs masked views, targets, which NoisePair does not give"):
        slotted(NoisePair)(objective=slot)
    with pytest.raises(UserError, match=r"Many needs 3 views \(there is 1\), which MaskRows does not give"):
        both(objective=Many)
    assert not opened


def test_an_empty_slot_and_a_function_of_the_width_are_left_to_the_stage() -> None:
    assert slotted(NoisePair)(objective=None).stages[0].tasks[0].name == "BarlowTwins"
    assert slotted(NoisePair)(objective=lambda dim: BarlowTwins(dim, width=8)).stages
    with pytest.raises(UserError, match="Many needs 3 views"):
        slotted(NoisePair)(objective=lambda dim: Many(dim))
    assert len(opened) == 3


@pytest.mark.parametrize("where", ["flag", "file"])
def test_a_mismatch_is_told_before_data_is_read_wherever_the_slot_was_filled(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch_geometric")
    monkeypatch.chdir(tmp_path)
    given = {"recipe": "core/pair", "parameters": {"data": "not-there.csv", "objective": "graphs/masked_features"}}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(given))
    flags = ["core/pair", "--data", "not-there.csv", "--objective", "graphs/masked_features"]
    assert main(["pretrain", *(flags if where == "flag" else ["--config", "wrong.yaml"])]) == 2
    told = capsys.readouterr().err
    assert "MaskedFeatures needs views of role 'clean', masked views, a graph" in told
    assert "which Pair does not give" in told


def test_what_a_file_leaves_empty_stays_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "core/pair", *SMALL, "--epochs", "1", "--clip", "null", "--out", "first"]) == 0
    assert main(["pretrain", "--config", "first/recipe.yaml", "--out", "again"]) == 0
    for run in ("first", "again"):
        assert yaml.safe_load((tmp_path / run / "recipe.yaml").read_text())["parameters"]["clip"] is None
    assert (tmp_path / "first/encoder.safetensors").read_bytes() == (tmp_path / "again/encoder.safetensors").read_bytes()


def test_rows_with_hidden_cells_are_learned_from(tmp_path: Path) -> None:
    run = pretrain("core/masked", tmp_path / "run", hidden=64, dim=16, epochs=5, log_every=1)
    losses = [line["loss"] for line in run.folder.metrics()]
    assert losses[-1] < 0.8 * losses[0]
    with pytest.raises(UserError, match="BarlowTwins needs 2 views"):
        pretrain("core/masked", tmp_path / "other", objective=BarlowTwins)


@pytest.mark.parametrize(("objective", "taught"), [(DINO, True), (BYOL, False)])
def test_a_stage_embeds_by_what_the_objective_s_authors_evaluate(objective: Any, taught: bool) -> None:
    encoder, head = MLP(4, dim=8), {"prototypes": 8} if taught else {}
    stage = Stage(tasks=[Task(NoisePair(0.1), objective(8, hidden=8, width=4, **head))], encoder=encoder, epochs=1, optimizer=sgd)
    teacher = stage.teachers[objective.__name__]
    assert isinstance(teacher, MovingAverage)
    assert stage.embedder is (teacher.module if taught else encoder)
