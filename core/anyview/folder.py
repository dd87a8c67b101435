"""A run's folder on disk: every file appears whole or not at all, and one process writes at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save
from torch import Tensor

from anyview.errors import UserError

OWN = ("recipe.yaml", "data.npz", "encoder.safetensors", "metrics.jsonl", "evaluation.json", "report.html", "checkpoint", "logs", ".lock")
KEPT_CHECKPOINTS = 2
PARTIAL = ".partial"  # a file that is being written; a killed process may leave one behind


class RunFolder:
    """The files of one run.

    recipe.yaml: full name, values, seed, versions, fingerprint of the data. data.npz: what its source keeps of the data.
    encoder.safetensors: the embedder, once training has ended. checkpoint/: all state to resume from. metrics.jsonl: one line
    per logged step. evaluation.json: scores beside their controls.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """The folder of a run that is there; raises UserError where there is none."""
        folder = cls(path)
        if not folder.path.is_dir():
            raise UserError(f"there is no folder {str(path)!r}; name the --out folder of an earlier `anyview pretrain`")
        if not folder.recipe_file.is_file():
            sentence = f"the folder {str(path)!r} holds no run (no recipe.yaml); name the --out folder of an earlier `anyview pretrain`"
            raise UserError(sentence)
        return folder

    @property
    def recipe_file(self) -> Path:
        """What was run."""
        return self.path / "recipe.yaml"

    @property
    def kept_file(self) -> Path:
        """What the run keeps of its data, where it keeps something."""
        return self.path / "data.npz"

    @property
    def encoder_file(self) -> Path:
        """The embedder's weights."""
        return self.path / "encoder.safetensors"

    @property
    def metrics_file(self) -> Path:
        """One JSON object per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def evaluation_file(self) -> Path:
        """Scores beside their controls, by data set and protocol."""
        return self.path / "evaluation.json"

    def check_free(self, *, overwrite: bool = False) -> None:
        """Raise UserError when a new run may not go here: something else is there, or a run that is not to be overwritten."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"the output {str(self.path)!r} is a file; name a folder with --out")
        found = set(self._entries())
        if ".lock" in found:
            with self.lock():
                found.discard(".lock")
        if not found:
            return
        if not overwrite:
            raise UserError(
                f"the output folder {str(self.path)!r} exists and is not empty; choose another --out, go on with --resume, "
                "or replace it with --overwrite"
            )
        strange = {name for name in found if name.removesuffix(PARTIAL) not in OWN}
        if "recipe.yaml" not in found or strange:
            strangers = ", ".join(sorted(strange)[:3]) or "no recipe.yaml"
            raise UserError(f"--overwrite replaces runs, and {str(self.path)!r} holds other things ({strangers}); choose another --out")

    def clear(self) -> None:
        """Remove the run that is to be overwritten; called under the lock."""
        with writing(self.path):
            for name in set(self._entries()) - {".lock"}:
                entry = self.path / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _entries(self) -> list[str]:
        return [entry.name for entry in self.path.iterdir()] if self.path.exists() else []

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing; the system frees it however the process ends. Raises UserError when another holds it."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.close()
            sentence = f"another process is writing the run {str(self.path)!r}; wait for it to end, or choose another --out"
            raise UserError(sentence) from error
        try:
            yield
        finally:
            handle.close()

    def read_recipe(self) -> dict[str, Any]:
        """What recipe.yaml says."""
        return read_yaml(self.recipe_file)

    def write_recipe(self, content: dict[str, Any]) -> None:
        """Save what is run."""
        with atomic(self.recipe_file) as file:
            file.write(yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())

    def save_kept(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Save what a run keeps of its data; nothing where it keeps nothing."""
        if arrays:
            with atomic(self.kept_file) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]

    def load_kept(self) -> dict[str, np.ndarray]:
        """What the run keeps of its data; raises UserError when the file is damaged."""
        if not self.kept_file.is_file():
            return {}
        try:
            with np.load(self.kept_file, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{str(self.kept_file)!r} is damaged ({error}); restore it, or train again") from error

    def save_encoder(self, state: dict[str, Tensor]) -> None:
        """Save the embedder's weights."""
        write_tensors(self.encoder_file, state)

    def load_encoder(self) -> dict[str, Tensor]:
        """The embedder's weights; raises UserError when training has not ended or the file is damaged."""
        if not self.encoder_file.is_file():
            raise UserError(
                f"the run {str(self.path)!r} has not finished training (no encoder.safetensors); go on with "
                f"`anyview pretrain --resume --out {self.path}`"
            )
        try:
            return load_file(self.encoder_file)
        except Exception as error:
            sentence = f"{str(self.encoder_file)!r} is damaged ({error}); write it anew with `anyview pretrain --resume --out {self.path}`"
            raise UserError(sentence) from error

    def checkpoints(self) -> list[Path]:
        """Checkpoints, oldest first."""
        return sorted((self.path / "checkpoint").glob("step-*.pt"))

    def save_checkpoint(self, state: dict[str, Any], step: int) -> None:
        """Write a checkpoint, then drop all but the newest few."""
        target = self.path / "checkpoint" / f"step-{step:09d}.pt"
        with writing(target):
            target.parent.mkdir(exist_ok=True)
        with atomic(target) as file:
            torch.save(state, file)
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint, None when there is none yet; a damaged one raises UserError that names what to do."""
        paths = self.checkpoints()
        if not paths:
            return None
        try:
            return torch.load(paths[-1], map_location="cpu", weights_only=True)
        except Exception as error:
            older = f"delete it to go on from step {step_of(paths[-2])}" if len(paths) > 1 else "start again with --overwrite"
            raise UserError(f"the checkpoint {str(paths[-1])!r} is damaged or cut short; {older}") from error

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl."""
        with writing(self.metrics_file), self.metrics_file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def cut_metrics(self, step: int) -> None:
        """Drop metrics logged after `step`: a resumed run logs them again."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        with atomic(self.metrics_file) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())

    def metrics(self) -> list[dict[str, Any]]:
        """All logged lines; a last line that a crash cut short is left out."""
        if not self.metrics_file.exists():
            return []
        lines = self.metrics_file.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def evaluations(self) -> dict[str, Any]:
        """Scores by data set: its fingerprint, results by protocol, label-free metrics; {} before the first evaluation."""
        return json.loads(self.evaluation_file.read_text()) if self.evaluation_file.exists() else {}

    def add_evaluation(self, data: str, fingerprint: str, protocols: dict[str, Any], label_free: dict[str, Any]) -> None:
        """Keep scores beside earlier ones; those of data that has changed since are dropped."""
        content = self.evaluations()
        before = content.get(data, {})
        kept = before["protocols"] if before.get("fingerprint") == fingerprint else {}
        content[data] = {"fingerprint": fingerprint, "protocols": {**kept, **protocols}, "label_free": label_free}
        with atomic(self.evaluation_file) as file:
            file.write(json.dumps(content, indent=2).encode())


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file with a mapping, read safely; raises UserError when it is missing or is none."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise UserError(f"cannot read the configuration {str(path)!r}: {reason}; give a YAML file such as a run's recipe.yaml") from error
    if not isinstance(content, dict):
        raise UserError(f"the configuration {str(path)!r} is no mapping of keys to values; give a YAML file such as a run's recipe.yaml")
    return content


def step_of(checkpoint: Path) -> int:
    """The optimiser step that a checkpoint was written after."""
    number = re.search(r"\d+", checkpoint.stem)
    assert number is not None
    return int(number.group())


def write_tensors(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Tensors by name as a safetensors file."""
    with atomic(path) as file:
        file.write(save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}, metadata))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into a UserError that names the file and the reason."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write {str(path)!r}: {reason}; free space or choose another folder with --out (what was saved before is intact)"
        ) from error


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` once it is whole and on disk; on an error `path` stays as it was."""
    partial = path.with_name(path.name + PARTIAL)
    with writing(path):
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
