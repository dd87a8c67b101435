"""What every component promises, as checks that take the component and raise AssertionError where it does not keep to it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyview.data.source import Batch, Epoch, Source
from anyview.encoders.encoder import Encoder, Encoding
from anyview.evaluation.collapse import CollapseAlarm, mean_standard_deviation
from anyview.objectives.objective import Losses, ObjectiveSlot
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing.tiny import tiny_batch, tiny_draws, tiny_pretrainer, tiny_stage, tiny_views
from anyview.views.draws import Draws
from anyview.views.maker import ViewMaker
from anyview.views.view import Mask, View, ViewSet


def check_objective(
    make_objective: ObjectiveSlot,
    *,
    make_views: Callable[[], ViewMaker] | None = None,
    make_encoder: Callable[[], Encoder] | None = None,
    make_batch: Callable[[], Batch] | None = None,
) -> None:
    """Assert what a training loop counts on: finite scalar losses, a gradient for every parameter, all state in the state dict.

    make_objective: called with the encoder's width. make_views, make_encoder, make_batch: for objectives that the tiny ones do not serve.
    Two steps are trained; the second must come out the same, bit for bit, in a fresh objective that was given the first one's state. On
    the tiny views and batch it is tried further: a last, smaller batch with an odd number of rows, fewer than the encoder is wide; and rows
    that are all alike, which must give finite losses and gradients and raise the alarm. An objective whose definition has no value there
    refuses such a batch by a ValueError.
    """
    make_stage = partial(tiny_stage, make_objective, make_views, make_encoder)
    tokens = make_objective(8).needs.tokens
    batch = make_batch() if make_batch is not None else tiny_batch(tokens=tokens)
    stage = make_stage()
    pretrainer = _begun(stage, batch)
    _check_losses(_step(pretrainer, stage, batch, 0))
    _check_gradients(pretrainer)
    resumed_stage = make_stage()
    resumed = _begun(resumed_stage, tiny_batch(batch.rows, tokens=tokens, seed=1) if make_batch is None else batch)
    resumed.load_state_dict(copy.deepcopy(pretrainer.state_dict()))
    went_on, again = _step(pretrainer, stage, batch, 1), _step(resumed, resumed_stage, batch, 1)
    for name, term in went_on.items():
        assert torch.equal(term, again[name]), (
            f"{name} is {again[name]:.9g} after a resume and {term:.9g} without: a state is not in the state dict"
        )
    if make_views is None and make_batch is None:
        needs = make_objective(8).needs
        alike = tiny_stage(make_objective, partial(tiny_views, needs, std=0.0), make_encoder)
        _check_degenerate(pretrainer, stage, tiny_batch(5, tokens=needs.tokens))
        equal = tiny_batch(tokens=needs.tokens, constant=True)
        collapsed = _begun(alike, equal)
        _check_degenerate(collapsed, alike, equal)
        if collapsed.rows is not None and not needs.masks:  # masks that differ make rows differ
            warning = CollapseAlarm().update(mean_standard_deviation(collapsed.rows))
            assert warning is not None, "rows that are all alike raise no alarm"


def check_view_maker(maker: ViewMaker, batch: Batch, *, sliced: bool = True, random: bool = True) -> None:
    """Assert that a maker gives what it says, the same for the same draws, changes no input, and makes equal views on two ranks.

    batch: one global batch. sliced: whether it is a tensor that ranks share; leave it off for a single graph and for makers that read other
    ranks' rows. random: whether views follow from the draws; one that draws nothing must give the same whatever they are.
    """
    before = copy.deepcopy(batch)
    views = maker(batch, tiny_draws(0, batch.total))
    _same(before.data, batch.data, "the batch that it was given")
    _check_gives(maker, views)
    again = maker(batch, tiny_draws(0, batch.total))
    other = maker(batch, tiny_draws(1, batch.total))
    for position, view in enumerate(views.views):
        _same(_parts(view), _parts(again.views[position]), f"view {position} with equal draws")
    differ = any(not _equal(_parts(a), _parts(b)) for a, b in zip(views.views, other.views, strict=True))
    assert differ == random, "other draws give the same views" if random else "a maker that draws nothing gives other views"
    if sliced:
        _check_slices(maker, batch, views)


def check_encoder(encoder: Encoder, view: View) -> None:
    """Assert that an encoder gives rows of its width, tokens if it says so, gradients, and the same rows each time in eval mode.

    view: without a mask; the masks that the encoder says it reads are put on it.
    """
    encoding = encoder.train()(view)
    assert isinstance(encoding, Encoding), f"an encoder returns an Encoding, found {type(encoding).__name__}"
    assert encoding.rows.ndim == 2, f"rows are (M, D), found {tuple(encoding.rows.shape)}"
    assert encoding.rows.shape[1] == encoder.dim, f"rows are {encoding.rows.shape[1]} wide, and dim says {encoder.dim}"
    assert (encoding.tokens is not None) == encoder.tokens, (
        f"tokens says {encoder.tokens}, and the encoding has tokens: {not encoder.tokens}"
    )
    assert encoding.tokens is None or encoding.coordinates is not None, "tokens come with the coordinates of their places"
    outputs = [encoding.rows] if encoding.tokens is None else [encoding.rows, encoding.tokens]
    for output in outputs:
        assert output.isfinite().all(), "the encoding has NaN or infinite numbers"
    torch.stack([output.double().square().sum() for output in outputs]).sum().backward()
    _check_gradients(encoder)
    encoder.eval()
    _same(encoder(view).rows, encoder(view).rows, "the rows of one view in eval mode")
    _check_masks(encoder, view)
    twin = copy.deepcopy(encoder)
    twin.load_state_dict(encoder.state_dict())
    _same(twin(view).rows, encoder(view).rows, "the rows after a round trip of the state dict")


def check_source(make_source: Callable[[], Source], *, batch_size: int | None = None) -> None:
    """Assert that a source counts, orders and shares out its samples as it says, and that two of them on equal data are equal."""
    source = make_source()
    assert source.fingerprint() == make_source().fingerprint(), "two sources on equal data have different fingerprints"
    assert source.shape, "shape is empty: an encoder is built from it"
    assert all(isinstance(size, int) for size in source.shape.values()), f"shape holds whole numbers, found {source.shape}"
    for name in ("labels", "ids", "groups"):
        values = getattr(source, name)
        assert values is None or len(values) == len(source), f"{name} are {len(values)} for {len(source)} samples"
    features = source.features()
    assert features.ndim == 2, f"features are (N, F), found {features.shape}"
    assert len(features) == len(source), f"there are {len(features)} rows of features for {len(source)} samples"
    assert np.isfinite(features).all(), "features have NaN or infinite numbers"
    clean = _indices(source.clean())
    assert clean.tolist() == list(range(len(source))), "clean views do not show every sample once, in the input's order"
    _check_batches(source, batch_size)
    if source.labels is not None:
        _check_split(source)


@torch.no_grad()
def _check_masks(encoder: Encoder, view: View) -> None:
    """The masks that an encoder says it reads do something: half of the tokens, or of the rows where there are none, are hidden."""
    plain = encoder(replace(view, mask=None))
    hidden = torch.zeros(plain.rows.shape[:1] if plain.tokens is None else plain.tokens.shape[:2], dtype=torch.bool)
    half = hidden.shape[-1] // 2
    hidden[..., :half] = True
    for kind in encoder.masks:
        masked = encoder(replace(view, mask=Mask(hidden.to(plain.rows.device), drop=kind == "drop")))
        assert not torch.equal(masked.rows, plain.rows), f"masks says {kind!r}, and rows are the same when half of the view is hidden"
        kept = hidden.shape[-1] - half if kind == "drop" else hidden.shape[-1]
        if masked.tokens is not None:
            found = f"{masked.tokens.shape[1]} tokens of {hidden.shape[1]}"
            assert masked.tokens.shape[1] == kept, f"masks says {kind!r}, and {found} came of a mask that hides {half}"


def _begun(stage: Stage, batch: Batch) -> Pretrainer:
    """The stage's module before its first step, when it has looked at the data."""
    shown = StepInput(batch, tiny_draws(0, batch.rows), 0, 10)
    pretrainer = tiny_pretrainer(stage, shown, batch.rows)
    pretrainer.before_epoch(0, lambda: [StepInput(batch, tiny_draws(99, batch.rows), 0, 10)])
    return pretrainer


def _check_degenerate(pretrainer: Pretrainer, stage: Stage, batch: Batch) -> None:
    """A step that comes out finite, or is refused in a sentence."""
    try:
        _check_losses(_step(pretrainer, stage, batch, 2))
    except ValueError as refused:
        if len(str(refused).split()) > 5:
            return
        raise AssertionError(f"a batch was refused without a reason: {refused}") from refused
    _check_gradients(pretrainer)


def _step(pretrainer: Pretrainer, stage: Stage, batch: Batch, number: int) -> Losses:
    pretrainer.zero_grad()
    draws = tiny_draws(number, batch.rows)
    losses: Losses = pretrainer(StepInput(batch, draws, number, 10))
    losses.total.backward()
    stage.optimizer([p for p in pretrainer.parameters() if p.requires_grad]).step()
    pretrainer.after_step(number + 1, 10)
    return losses


def _check_losses(losses: Losses) -> None:
    assert losses, "the objective gave no loss"
    for name, term in losses.items():
        assert term.ndim == 0, f"the loss {name!r} has the shape {tuple(term.shape)}; a loss is a scalar"
        assert term.isfinite(), f"the loss {name!r} is {term.item()}"


def _check_gradients(module: torch.nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} gets no gradient; freeze it or use it, because several ranks would wait for it"
            assert parameter.grad.isfinite().all(), f"the gradient of {name} has NaN or infinite numbers"
        else:
            assert parameter.grad is None, f"{name} is frozen and got a gradient"


def _check_gives(maker: ViewMaker, views: ViewSet) -> None:
    gives = maker.gives
    assert len(views.views) >= gives.views, f"{gives.views} views were promised and {len(views.views)} made"
    roles = {view.role for view in views.views}
    assert set(gives.roles) <= roles, f"the roles {gives.roles} were promised and {sorted(roles)} made"
    assert not gives.masks or any(view.mask is not None for view in views.views), "masks were promised and none made"
    assert not gives.targets or any(view.target is not None for view in views.views), "targets were promised and none made"
    assert not gives.relations or len(views.relations), "relations were promised and none made"
    assert set(gives.extras) <= views.extras.keys(), f"the extras {gives.extras} were promised and {sorted(views.extras)} made"
    for group in gives.groups:
        assert all(view.groups and group in view.groups for view in views.views), f"the group ids {group!r} were promised and are missing"


def _check_slices(maker: ViewMaker, batch: Batch, views: ViewSet) -> None:
    cut = batch.rows // 3
    for own in (slice(0, cut), slice(cut, batch.rows)):
        part = Batch(batch.data[own], own.stop - own.start, own.start, batch.rows)
        sliced = maker(part, Draws.seeded(1, total=batch.rows, start=own.start, rows=own.stop - own.start))
        for position, (whole, mine) in enumerate(zip(views.views, sliced.views, strict=True)):
            expected = {name: value[own] for name, value in _parts(whole).items()}
            _same(expected, _parts(mine), f"view {position}, rows {own.start} to {own.stop}, made on a rank of its own")


def _check_batches(source: Source, batch_size: int | None) -> None:
    epoch = Epoch(number=3, seed=5, batch_size=batch_size)
    batches = list(source.batches(epoch))
    assert len(batches) == source.steps(batch_size), f"steps says {source.steps(batch_size)}, and an epoch has {len(batches)} batches"
    for batch in batches:
        assert batch.start == 0, f"one process holds a batch from its first row on, found start {batch.start}"
        assert batch.rows == batch.total, f"one process holds whole batches, found {batch.rows} of {batch.total} rows"
    seen = _indices(batches)
    if source.train_rows is not None:
        assert bool(torch.isin(seen, source.train_rows).all()), "an epoch shows samples that train_rows keeps from training"
    assert len(seen.unique()) == len(seen), "an epoch shows a sample twice"
    assert torch.equal(seen, _indices(source.batches(epoch))), "the order of an epoch does not follow from the seed and its number"
    rest = _indices(source.batches(Epoch(number=3, seed=5, batch_size=batch_size, skip=1)))
    assert torch.equal(rest, _indices(batches[1:])), "an epoch that skips a batch does not go on with the next"
    if source.divisible:
        parts = [list(source.batches(Epoch(number=3, seed=5, batch_size=batch_size, rank=rank, ranks=2))) for rank in range(2)]
        together = [part for batch in zip(*parts, strict=True) for part in batch]
        assert torch.equal(_indices(together), seen), "the parts of two ranks are not the batch, in rank order"


def _check_split(source: Source) -> None:
    split = source.split(0)
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    for (one, a), (other, b) in [*pairwise(parts.items()), (("train", split.train), ("test", split.test))]:
        assert not set(a.tolist()) & set(b.tolist()), f"{one} and {other} share rows"
        if source.groups is not None:
            shared = set(source.groups[a].tolist()) & set(source.groups[b].tolist())
            assert not shared, f"{one} and {other} share the groups {sorted(shared)}"


def _indices(parts: Iterable[Batch | View]) -> Tensor:
    indices = [part.index for part in parts]
    assert all(index is not None for index in indices), "batches and clean views need the index of their samples"
    return torch.cat([torch.empty(0, dtype=torch.long), *(index for index in indices if index is not None)])


def _parts(view: View) -> dict[str, Any]:
    """The tensors of a view, by name."""
    mask = {} if view.mask is None else {"mask": view.mask.hidden, "token": view.mask.replaced}
    data = {f"data, {name}": value for name, value in view.data.items()} if isinstance(view.data, dict) else {"data": view.data}
    parts = {**data, "target": view.target, **mask, **(view.params or {})}
    return {name: value for name, value in parts.items() if isinstance(value, Tensor)}


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_equal(value, theirs[name]) for name, value in ours.items())
    return type(ours) is type(theirs)


def _same(ours: Any, theirs: Any, what: str) -> None:
    assert _equal(ours, theirs), f"{what} changed"
