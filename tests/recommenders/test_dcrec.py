"""DCRec against the paper's formulas written out, its encoder, and what its graphs leave out in training."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import Mask, View
from anyview_recommenders.conformity import conformity, divergence
from anyview_recommenders.item_graph import similar_items, with_loops
from anyview_recommenders.item_graph_encoders import FusedItemTransformer, Fusion
from anyview_recommenders.recipes.dcrec import DCRec
from anyview_recommenders.sequence_encoders import ItemTransformer
from anyview_recommenders.sequence_views import NextItems

from .plain import info_nce
from .test_item_graph import near, normalised
from .test_sequences import DIM, ITEMS, LENGTH, LOG, batch

MADE = partial(DCRec, rate=0.4, weight=0.3, divergence=0.2)


def encoder(**options: object) -> FusedItemTransformer:
    torch.manual_seed(1)
    graphs = with_loops(near()), with_loops(similar_items(LOG.matrix(), 4))
    return FusedItemTransformer(*graphs, DIM, length=LENGTH, heads=2, **{"drop": 0.0, **options})


def step_of(made: FusedItemTransformer) -> Step:
    draws = Draws.seeded(5, total=12)
    return Step(NextItems()(batch(), draws), batch(), draws, 0, 20, made)


@pytest.mark.usefixtures("double")
def test_states_are_fused_with_their_items_rows_in_both_graphs() -> None:
    made = encoder().eval()
    embedding, sequence = made.table[1:-1], torch.tensor([[0, 3, 9, 1]])
    found = made(View({"sequence": sequence}))
    tables = []
    for matrix, norm, both in ((near(), made.adjacent_norm, True), (similar_items(LOG.matrix(), 4), made.similar_norm, False)):
        dense = normalised(with_loops(matrix).toarray(), both=both)
        mean = (embedding + dense @ embedding + dense @ dense @ embedding) / 3
        tables.append(layer_norm(mean + embedding, (DIM,), norm.weight, norm.bias))
    torch.testing.assert_close(found.adjacent[1:-1], tables[0], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found.similar[1:-1], tables[1], rtol=1e-6, atol=1e-6)  # cosines have 1e-6 below
    states = ItemTransformer.states(made, sequence)
    torch.testing.assert_close(found.sequential, states)
    for place, item in ((1, 2), (2, 8), (3, 0)):
        kinds = [states[0, place], found.adjacent[item + 1], found.similar[item + 1]]
        powers = torch.stack([torch.exp(made.fuse.ask.weight[0] @ (made.fuse.turn.weight @ kind)) for kind in kinds])
        fused = sum(power / powers.sum() * kind for power, kind in zip(powers, kinds, strict=True))
        torch.testing.assert_close(found.tokens[0, place], fused, rtol=1e-10, atol=1e-12)
    assert not found.tokens[0, 0].any()
    torch.testing.assert_close(made(View({"items": torch.tensor([7])})).rows, embedding[[7]])


def test_the_encoder_keeps_the_contract_and_reads_masks_and_no_later_item() -> None:
    check_encoder(encoder(), View({"sequence": torch.randint(1, ITEMS + 1, (5, LENGTH))}))
    made, sequence = encoder().eval(), torch.tensor([[0, 3, 9, 1]])
    later = made(View({"sequence": torch.tensor([[0, 3, 9, 7]])}))
    torch.testing.assert_close(made(View({"sequence": sequence})).tokens[:, :3], later.tokens[:, :3])
    hidden = made(View({"sequence": sequence}, mask=Mask(torch.tensor([[False, False, True, False]]))))
    assert hidden.tokens.isfinite().all()
    padded = made(View({"sequence": torch.tensor([[0, 0, 3, 9, 1]])}))
    torch.testing.assert_close(padded.rows, made(View({"sequence": sequence})).rows)


def test_equal_kinds_are_fused_to_themselves() -> None:
    rows = torch.randn(4, DIM)
    torch.testing.assert_close(Fusion(DIM)(rows, rows, rows), rows)


@pytest.mark.usefixtures("double")
def test_it_is_the_papers_formulas() -> None:
    made, objective = encoder(), MADE(DIM)
    step = step_of(made)
    found = objective(step)
    [(view, encoding)] = step.memo.values()
    sequence = view.data["sequence"]
    last = sequence[:, -1]
    weights = conformity(made.adjacent, made.adjacent_rows, sequence, 0.4)
    unique = sorted(set(last.tolist()))
    own = [unique.index(item) for item in last.tolist()]
    assert len(unique) < len(own)

    def each(queries: Tensor, keys: Tensor, place: int) -> Tensor:
        return info_nce(queries[None], keys, [place], 0.8)

    adjacent, similar = (table[unique] for table in (encoding.adjacent, encoding.similar))
    by_state = torch.stack([each(encoding.sequential[b, -1], adjacent, own[b]) for b in range(12)])
    between = torch.stack([each(adjacent[own[b]], similar, own[b]) for b in range(12)])
    contrast = (weights * by_state + (weights.max() - weights) * between).mean()
    torch.testing.assert_close(found["contrast"], 0.3 * contrast, rtol=1e-10, atol=1e-12)
    samples = 0.4 + 0.1 * torch.randn(12, generator=step_of(made).generator)
    torch.testing.assert_close(found["conformity"], 0.2 * divergence(weights, samples), rtol=1e-10, atol=1e-12)
    losses = []
    for sample, place in (view.target != 0).nonzero().tolist():
        scores = torch.exp(made.table[1:-1] @ encoding.tokens[sample, place])
        losses.append(-torch.log(scores[view.target[sample, place] - 1] / scores.sum()))
    torch.testing.assert_close(found["next_item"], torch.stack(losses).mean(), rtol=1e-10, atol=0)
    whole = made(View({"sequence": sequence}))
    assert not torch.allclose(whole.adjacent, encoding.adjacent)


def test_it_keeps_the_contract_and_two_processes_are_one() -> None:
    check_objective(MADE, make_views=NextItems, make_encoder=encoder, make_batch=batch)
    check_stage_rank_exact(partial(tiny_stage, MADE, NextItems, encoder), batch)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match=r"rate must lie in \[0, 1\)"):
        DCRec(DIM, rate=1.0)
    with pytest.raises(UserError, match="above 0, and these are"):
        DCRec(DIM, deviation=0.0)
