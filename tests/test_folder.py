"""A run's folder: whole files or none, one writer, checkpoints that survive."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anyview.errors import UserError
from anyview.folder import KEPT_CHECKPOINTS, RunFolder, atomic


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    path = tmp_path / "run"
    path.mkdir()
    return RunFolder(path)


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def write_half() -> None:
        with atomic(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    with atomic(path) as file:
        file.write(b"after")
    assert path.read_text() == "after"


def test_the_newest_checkpoints_are_kept(folder: RunFolder) -> None:
    for step in range(1, 6):
        folder.save_checkpoint({"step": step, "tensor": torch.ones(2)}, step)
    assert [path.name for path in folder.checkpoints()] == ["step-000000004.pt", "step-000000005.pt"]
    assert len(folder.checkpoints()) == KEPT_CHECKPOINTS
    loaded = folder.load_checkpoint()
    assert loaded is not None
    assert loaded["step"] == 5


def test_a_damaged_checkpoint_names_the_older_one(folder: RunFolder) -> None:
    for step in (3, 4):
        folder.save_checkpoint({"step": step}, step)
    newest = folder.checkpoints()[-1]
    newest.write_bytes(newest.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"step-000000004.pt' is damaged or cut short; delete it to go on from step 3"):
        folder.load_checkpoint()
    newest.unlink()
    folder.checkpoints()[-1].write_bytes(b"")
    with pytest.raises(UserError, match="start again with --overwrite"):
        folder.load_checkpoint()


def test_a_checkpoint_is_read_without_running_what_it_holds(folder: RunFolder) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (folder.path / "sprung",))

    target = folder.path / "checkpoint" / "step-000000001.pt"
    target.parent.mkdir()
    torch.save({"trap": Trap()}, target)
    with pytest.raises(UserError, match="damaged"):
        folder.load_checkpoint()
    assert not (folder.path / "sprung").exists()


def test_metrics_are_cut_to_a_step_and_forgive_a_torn_last_line(folder: RunFolder) -> None:
    for step in (1, 2, 3):
        folder.append_metrics({"step": step})
    with folder.metrics_file.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [line["step"] for line in folder.metrics()] == [1, 2, 3]
    folder.cut_metrics(2)
    folder.append_metrics({"step": 3})
    assert [line["step"] for line in folder.metrics()] == [1, 2, 3]


def test_the_lock_is_exclusive_and_freed(folder: RunFolder) -> None:
    def take() -> None:
        with folder.lock():
            pass

    with folder.lock(), pytest.raises(UserError, match="another process is writing"):
        take()
    take()


def test_clear_removes_only_what_a_run_writes(folder: RunFolder) -> None:
    folder.write_recipe({"recipe": "core/pair"})
    folder.save_checkpoint({"step": 1}, 1)
    folder.check_free(overwrite=True)
    folder.clear()
    assert list(folder.path.iterdir()) == []
    folder.write_recipe({"recipe": "core/pair"})
    (folder.path / "notes.md").write_text("mine")
    with pytest.raises(UserError, match=r"notes.md"):
        folder.check_free(overwrite=True)


def test_encoder_weights_come_back(folder: RunFolder) -> None:
    shared = torch.arange(6.0).view(2, 3)
    folder.save_encoder({"a": shared, "b": shared.t()})
    state = folder.load_encoder()
    assert torch.equal(state["b"], shared.t())


def test_a_broken_configuration_is_one_sentence(folder: RunFolder) -> None:
    folder.recipe_file.write_text("recipe: [unclosed")
    with pytest.raises(UserError, match="cannot read the configuration"):
        folder.read_recipe()
    folder.recipe_file.write_text("- a\n- b\n")
    with pytest.raises(UserError, match="no mapping"):
        folder.read_recipe()
    folder.recipe_file.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(UserError, match="cannot read"):
        folder.read_recipe()
