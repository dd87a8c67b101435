"""A finished run: load it, embed with it, evaluate it, export it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anyview.data.roots import data_root
from anyview.data.source import Outline, Source
from anyview.encoders.encoder import Encoder
from anyview.encoders.projected import Projected
from anyview.errors import UserError
from anyview.evaluation.augmented import AugmentedRows, augmented_rows
from anyview.evaluation.embedding import choose_device, embed, embed_in_parts
from anyview.evaluation.label_free import label_free
from anyview.evaluation.protocol import RANDOM, RAW, TRAINED, Result, Rows, check_options, evaluate_rows
from anyview.evaluation.protocol_data import any_split
from anyview.evaluation.subject import RawFeatures, TrainedEncoder, UntrainedEncoder
from anyview.folder import RunFolder, write_tensors
from anyview.plugins import host
from anyview.recipe import Recipe, RecipeFunction
from anyview.record import check_record, read_record
from anyview.views.maker import ViewMaker


def build(name: str, values: Mapping[str, Any], *, seed: int = 0, preset: str | None = None) -> Recipe:
    """A recipe by name, with the initial weights that `seed` gives; leaves the global random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _assemble(name, values, preset=preset)


def _assemble(name: str, values: Mapping[str, Any], *, preset: str | None = None) -> Recipe:
    """A recipe by name, with initial weights from the global random state."""
    component = host().find("recipes", name)
    function: RecipeFunction = component.load()
    recipe = function(preset=preset, **values)
    recipe.name = component.full_name
    return recipe


def load(path: str | Path) -> Run:
    """The run in a folder; its data is not read until it is needed. Raises UserError where there is no finished run."""
    folder = RunFolder.existing(path)
    name, values, record = read_record(folder.recipe_file)
    check_record(record, folder)
    data = record["data"]
    outline = Outline(data["name"], data["shape"], folder.load_kept())
    recipe = build(name, {**values, "data": outline}, seed=record["seed"])
    recipe.values = values
    run = Run(folder, recipe)
    try:
        recipe.embedder.load_state_dict(folder.load_encoder())
    except RuntimeError as error:
        raise UserError(
            f"the weights in {str(path)!r} do not fit its recipe.yaml, which was edited or is older; restore it, or train again"
        ) from error
    return run


class Run:
    """A run's folder and the recipe in it."""

    def __init__(self, folder: RunFolder, recipe: Recipe) -> None:
        self.folder, self.recipe = folder, recipe
        self._opened: dict[str, Source] = {}

    @property
    def embedder(self) -> Encoder:
        """The trained encoder that remains."""
        return self.recipe.embedder

    @cached_property
    def record(self) -> dict[str, Any]:
        """What recipe.yaml says."""
        return self.folder.read_recipe()

    @cached_property
    def source(self) -> Source:
        """The data that the run was trained on, read when first asked for."""
        if not isinstance(self.recipe.source, Outline):
            return self.recipe.source
        source = self._open(self.recipe.values["data"])
        if source.fingerprint() != self.record["data"]["fingerprint"]:
            warnings.warn(f"the data {source.name!r} is not what the run was trained on: its fingerprint differs", stacklevel=2)
        return source

    def embed(self, data: Any = None, *, batch_size: int = 1024, device: str = "auto") -> np.ndarray:
        """(N, D) float32, one row per sample, in the input's order. data: a name, path, array or Source; None is the run's own.

        device: cpu, cuda, mps or auto, which is cuda where it can be had, else cpu.
        """
        return embed(self.embedder, self.open(data), batch_size=batch_size, device=choose_device(device))

    def embed_in_parts(self, data: Any = None, *, batch_size: int = 1024, device: str = "auto") -> Iterator[np.ndarray]:
        """The rows of `embed`, (n, D) float32 at a time, made as they are taken: for data that does not fit into memory."""
        return embed_in_parts(self.embedder, self.open(data), batch_size=batch_size, device=choose_device(device))

    @property
    def view_maker(self) -> ViewMaker:
        """What made the views that the run was trained on: that of the last stage's first task."""
        return self.recipe.stages[-1].tasks[0].views

    def open(self, data: Any = None) -> Source:
        """Data as the run's modality reads it; None is the run's own. A source, as it is; what was opened by name is opened once."""
        if isinstance(data, (str, Path)):
            if str(data) not in self._opened:
                self._opened[str(data)] = self._open(data)
            return self._opened[str(data)]
        return self.source if data is None else self._open(data)

    def evaluation(self, data: Any = None) -> dict[str, Any]:
        """What evaluation.json holds of data, given as in `open`: fingerprint, results by protocol, label-free metrics; or {}."""
        return self.folder.evaluations().get(self._key(self.open(data)), {})

    def _key(self, source: Source) -> str:
        """What evaluation.json calls a source: the absolute paths of its files, else its name."""
        own = str(self.record["parameters"]["data"]) if source is self.source else source.name
        given = next((data for data, opened in self._opened.items() if opened is source), own)
        in_root = data_root() / given
        return source.place or (str(in_root.resolve()) if in_root.is_file() else source.name)

    def evaluate(
        self,
        protocols: Sequence[str] | None = None,
        *,
        data: Any = None,
        seeds: int = 5,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        metrics: Sequence[str] = (),
        baselines: Sequence[str] | None = None,
        device: str = "auto",
    ) -> list[Result]:
        """Scores of the frozen encoder, each beside the same encoder untrained, the raw features and the data's own controls, on one split.

        protocols: names of evaluations; None = the data's own, else linear where there are labels. data: as in `open`. seeds: how many.
        options: by protocol; they win over the recipe's own probe settings. metrics: label-free metrics that cost more than the spectrum
        does, by name. baselines: names of those that stand beside, which a large data set may be too much for; None for all. device: that
        encoders run on, as in `embed`. Results are also kept in evaluation.json, by data set and protocol, with the label-free metrics of
        the rows.
        """
        if seeds < 1:
            raise UserError(f"scores need at least 1 seed, and {seeds} were asked for")
        from anyview.evaluation.metrics import check_more, more_label_free  # they bring scikit-learn, which training does without

        check_more(metrics)
        source = self.open(data)
        by_default = source.protocols or (() if source.labels is None else ("linear",))
        wanted = by_default if protocols is None else protocols
        asked = {}
        for component in (host().find("evaluations", name) for name in wanted):
            chosen = {**self.recipe.probe.get(component.name, {}), **(options or {}).get(component.name, {})}
            asked[component.load()] = check_options(component.load(), chosen)
        context: dict[str, Any] = {"open": self.open, "device": choose_device(device)}
        trained = TrainedEncoder(self.embedder, source, **context)
        summary = label_free(trained(0), what="encoder rows, all samples, not augmented")

        def shown() -> AugmentedRows:
            return augmented_rows(self.embedder, source, self.view_maker, device=choose_device(device))

        summary |= more_label_free(metrics, trained(0), shown)
        fresh, raw = UntrainedEncoder(self.fresh_encoder, source, **context), RawFeatures(source, **context)
        columns: dict[str, Rows] = {TRAINED: trained, RANDOM: fresh, RAW: raw}
        columns |= {name: RawFeatures(source, control=name, **context) for name in source.controls()}
        split, own = partial(any_split, source), source.baselines()
        results = [evaluate_rows(columns, source.labels, split, one, range(seeds), chosen, own, baselines) for one, chosen in asked.items()]
        found = {result.protocol: result.to_dict() for result in results}
        before = self.evaluation(source)
        kept = before["label_free"] if before.get("fingerprint") == source.fingerprint() else {}
        self.folder.add_evaluation(self._key(source), source.fingerprint(), found, {**kept, **summary})
        return results

    def export(self, path: str | Path) -> Path:
        """Write the embedder's weights to a .safetensors file that does not exist yet.

        The run's record, as JSON, is under "anyview" in the file's metadata. Raises UserError when the file exists or does not end in
        .safetensors.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            ending = path.suffix or "nothing"
            raise UserError(f"{str(path)!r} ends in {ending!r}, and weights are exported as safetensors; name a .safetensors file")
        if path.exists():
            raise UserError(f"the file {str(path)!r} exists; choose another name")
        write_tensors(path, self.embedder.state_dict(), {"anyview": json.dumps(self.record)})
        return path

    def fresh_encoder(self) -> Encoder:
        """The same encoder, untrained, with initial weights from the global random state: the control."""
        return self._fresh().embedder

    def projected_encoder(self) -> Encoder:
        """The last stage's student and the projector of its first objective, as training left them: its rows are what the loss compared.

        Raises UserError where the objective has no projector, and where the run's checkpoints are gone.
        """
        projected, name = _projected(self.recipe)
        saved = self.folder.load_checkpoint()
        if saved is None:
            raise UserError(
                f"the projector of the run {str(self.folder.path)!r} is in its checkpoint, which is gone; train again, "
                "or use the encoder's own rows"
            )
        stage = f"{len(self.recipe.stages) - 1}."
        places = {f"{stage}encoder.": "encoder.", f"{stage}objectives.{name}.project.": "project."}
        state = {
            own + key.removeprefix(place): value
            for key, value in saved["modules"].items()
            for place, own in places.items()
            if key.startswith(place)
        }
        projected.load_state_dict(state)
        return projected

    def fresh_projected_encoder(self) -> Encoder:
        """The same student and projector, untrained, with initial weights from the global random state."""
        return _projected(self._fresh())[0]

    def _fresh(self) -> Recipe:
        outline = Outline(self.record["data"]["name"], self.record["data"]["shape"], self.folder.load_kept())
        return _assemble(self.recipe.name, {**self.recipe.values, "data": outline})

    def _open(self, data: Any) -> Source:
        source = data if isinstance(data, Source) else _assemble(self.recipe.name, {**self.recipe.values, "data": data}).source
        expected = self.record["data"]["shape"]
        for key, value in source.shape.items():
            if value != expected.get(key):
                reads = f"the run's encoder reads {expected.get(key)} {key}"
                raise UserError(f"{reads}, and the data {source.name!r} has {value}; give data of the same shape")
        return source


def _projected(recipe: Recipe) -> tuple[Projected, str]:
    """The last stage's student with the projector of its first task, and the task's name."""
    stage = recipe.stages[-1]
    task = stage.tasks[0]
    if task.objective.projector is None:
        compares = f"{type(task.objective).__name__} compares rows without a projector of its own, or has several"
        raise UserError(f"{compares}; use the encoder's rows")
    return Projected(stage.encoder, task.objective.projector), task.name
