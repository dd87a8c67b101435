"""Whether several ranks train exactly as one process does: same losses, same gradients, same state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from anyview.data.source import Batch, Epoch
from anyview.distributed import rank, ranks
from anyview.encoders.encoder import Encoder
from anyview.objectives.objective import Losses, ObjectiveSlot
from anyview.pretrainer import StepInput
from anyview.recipe import Stage
from anyview.testing.processes import run_on_ranks
from anyview.testing.tiny import tiny_batch, tiny_draws, tiny_pretrainer, tiny_stage
from anyview.views.maker import ViewMaker


@dataclass
class Trace:
    """What a few training steps leave behind: losses and gradients of each step, weights of the combiner, and the state at the end."""

    losses: list[dict[str, Tensor]] = field(default_factory=list)
    gradients: list[dict[str, Tensor]] = field(default_factory=list)
    weights: list[dict[str, float]] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)


def check_rank_exact(
    make_objective: ObjectiveSlot,
    *,
    ranks: int = 2,
    rows: int = 12,
    steps: int = 3,
    tolerance: float = 1e-9,
    dtype: torch.dtype = torch.float64,
    make_views: Callable[[], ViewMaker] | None = None,
    make_encoder: Callable[[], Encoder] | None = None,
) -> None:
    """Assert that an objective trains on `ranks` processes as on one; see `check_stage_rank_exact`.

    make_objective: importable by name (a class, or functools.partial of one), called with the encoder's width. make_views, make_encoder:
    for objectives that the tiny ones do not serve, importable by name too. A batch has `rows` rows; choose a number that `ranks` does not
    divide to try uneven parts.
    """
    make_stage = partial(tiny_stage, make_objective, make_views, make_encoder)
    tokens = make_objective(8).needs.tokens
    check_stage_rank_exact(make_stage, partial(tiny_batch, rows, tokens=tokens), ranks=ranks, steps=steps, tolerance=tolerance, dtype=dtype)


def check_stage_rank_exact(
    make_stage: Callable[[], Stage],
    make_batch: Callable[[], Batch],
    *,
    ranks: int = 2,
    steps: int = 3,
    tolerance: float = 1e-9,
    dtype: torch.dtype = torch.float64,
) -> None:
    """Assert that `ranks` processes under DistributedDataParallel, each with its part of the batch, train as one process with all of it.

    make_stage, make_batch: importable by name; make the same stage and the same global batch on each call. Compared after each of `steps`
    optimiser steps: every loss and every parameter's gradient; at the end: parameters, buffers, teachers. Differences are held against the
    largest value of a tensor (or a twentieth of the largest of all); in float64, 1e-9 tells an exact method from one that is nearly so.
    """
    whole = trace(make_stage, make_batch, steps, dtype)
    for number, part in enumerate(run_on_ranks(trace, ranks, make_stage, make_batch, steps, dtype)):
        where = f"rank {number} of {ranks}"
        for step in range(steps):
            _compare(whole.losses[step], part.losses[step], tolerance, f"loss, step {step}, {where}")
            _compare(whole.gradients[step], part.gradients[step], tolerance, f"gradient, step {step}, {where}")
            ours, theirs = ({k: torch.tensor(w) for k, w in t.weights[step].items()} for t in (whole, part))
            _compare(ours, theirs, tolerance, f"combiner weight, step {step}, {where}")
        _compare(whole.state, part.state, tolerance, f"state after {steps} steps, {where}")


def trace(make_stage: Callable[[], Stage], make_batch: Callable[[], Batch], steps: int, dtype: torch.dtype = torch.float64) -> Trace:
    """Train a stage on one batch for a few steps on the ranks that there are, and keep what happens."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return _train(make_stage(), make_batch(), steps)
    finally:
        torch.set_default_dtype(before)


def own_part(batch: Batch) -> Batch:
    """This rank's rows of a global batch, whose data is a tensor or a dictionary of tensors, and of its extras."""
    own = Epoch(rank=rank(), ranks=ranks()).own(batch.rows)
    index, labels = (None if value is None else value[own] for value in (batch.index, batch.labels))
    groups = None if batch.groups is None else {name: ids[own] for name, ids in batch.groups.items()}
    extras = {name: own_part(extra) for name, extra in batch.extras.items()}
    data = {name: value[own] for name, value in batch.data.items()} if isinstance(batch.data, dict) else batch.data[own]
    return Batch(data, own.stop - own.start, own.start, batch.rows, index=index, labels=labels, groups=groups, extras=extras)


def _train(stage: Stage, batch: Batch, steps: int) -> Trace:
    kept = Trace()
    part = own_part(batch)
    own = slice(part.start, part.start + part.rows)
    look = partial(StepInput, part, number=0, steps=steps)
    pretrainer = tiny_pretrainer(stage, look(draws=tiny_draws(0, batch.rows, own)), batch.rows)
    module: nn.Module = DistributedDataParallel(pretrainer, broadcast_buffers=False) if ranks() > 1 else pretrainer
    trained = [p for p in pretrainer.parameters() if p.requires_grad]
    shared = [p for p in stage.encoder.parameters() if p.requires_grad]
    optimizer = stage.optimizer(trained)
    pretrainer.before_epoch(0, lambda: [look(draws=tiny_draws(99, batch.rows, own))])
    for step in range(steps):
        optimizer.zero_grad()
        draws = tiny_draws(step, batch.rows, own)
        losses: Losses = module(StepInput(part, draws, step, steps))
        kept.weights.append(stage.combiner.backward(pretrainer.by_task(losses), shared, torch.Tensor.backward, draws.generator))
        kept.losses.append({name: term.detach().clone() for name, term in losses.items()})
        kept.gradients.append({n: p.grad.clone() for n, p in pretrainer.named_parameters() if p.grad is not None})
        optimizer.step()
        pretrainer.after_step(step + 1, steps)
    kept.state = {name: value.clone() for name, value in pretrainer.state_dict().items()}
    return kept


def _compare(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float, what: str) -> None:
    assert ours.keys() == theirs.keys(), f"{what}: one process has {sorted(ours)}, the rank has {sorted(theirs)}"
    floor = 0.05 * max((_largest(value) for value in ours.values()), default=0.0)  # tiny tensors are rounding of the large ones
    for name, value in ours.items():
        if not value.is_floating_point():
            assert torch.equal(value, theirs[name]), f"{what}: {name} differs: {value} on one process, {theirs[name]} here"
            continue
        scale = max(_largest(value), floor)
        error = _largest(value - theirs[name])
        assert error <= tolerance * scale, f"{what}: {name} differs by {error:.2g}, with values up to {scale:.3g}"


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() and value.is_floating_point() else 0.0
