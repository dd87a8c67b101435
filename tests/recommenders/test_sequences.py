"""Sequences of items: histories and windows, views, encoders and losses against what the papers say of them."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.data.source import Batch, Epoch, Outline
from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.objectives.simclr import simclr_loss
from anyview.testing import check_encoder, check_objective, check_source, check_stage_rank_exact, check_view_maker, tiny_stage
from anyview.views.draws import Draws
from anyview.views.maker import ViewMaker
from anyview.views.view import View
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.generated_walks import walk
from anyview_recommenders.histories import Histories
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.losses import view_contrast
from anyview_recommenders.next_item import NextItem, binary_losses, sampled_losses
from anyview_recommenders.recipes.duorec import SameTarget
from anyview_recommenders.sequence_contrast import SequenceContrast
from anyview_recommenders.sequence_encoders import ClozeTransformer, ItemTransformer
from anyview_recommenders.sequence_source import SequenceSource
from anyview_recommenders.sequence_views import Augmented, Cloze, NextItems, cropped, lengths, masked, reordered
from anyview_recommenders.splits import split

LOG = walk(40, 30).log
ITEMS, DIM, LENGTH = LOG.items, 8, 6


def source(length: int = LENGTH) -> SequenceSource:
    return SequenceSource("walks", split(LOG, "leave_one_out"), length=length)


def batch(rows: int = 12) -> Batch:
    """The first users of an epoch."""
    whole = next(iter(source().batches(Epoch())))
    return Batch({"sequence": whole.data["sequence"][:rows]}, rows, index=whole.index[:rows])


def encoder(**options: object) -> ItemTransformer:
    torch.manual_seed(1)
    return ItemTransformer(ITEMS, DIM, length=LENGTH, **{"drop": 0.0, **options})


def cloze(**options: object) -> ClozeTransformer:
    torch.manual_seed(1)
    return ClozeTransformer(ITEMS, DIM - 1, length=LENGTH, heads=1, **{"drop": 0.0, **options})


def hide() -> Cloze:
    return Cloze(ITEMS, 0.4, 0.3)


def same_target() -> SameTarget:
    return SameTarget(source().training)


def test_histories_are_in_order_of_time_whatever_the_order_of_the_log() -> None:
    shuffled = LOG.select(np.random.default_rng(0).permutation(len(LOG)))
    ours, theirs = (Histories.of(split(log, "leave_one_out"), LENGTH) for log in (LOG, shuffled))
    assert torch.equal(ours.items, theirs.items)
    for user in range(LOG.users):
        of_user = LOG.select(LOG.user == user)
        own = slice(int(ours.starts[user]), int(ours.starts[user + 1]))
        assert ours.items[own].tolist() == of_user.item[np.argsort(of_user.time)].tolist()
        assert ours.parts[own].tolist() == [0] * (len(of_user) - 2) + [1, 2]


def test_a_test_part_without_times_comes_last() -> None:
    log = Interactions.from_ids([1, 1, 1], [5, 6, 7], time=np.array([2.0, 1.0, 0.0]))
    test = Interactions(np.array([0]), np.array([0]), log.user_ids, log.item_ids)
    histories = Histories.of(split(log, "given", validation=0, test=test), 5)
    assert histories.items.tolist() == [2, 1, 0, 0]
    assert histories.parts.tolist() == [0, 0, 0, 2]


def test_windows_show_the_latest_with_zeros_to_the_left() -> None:
    histories = source().training
    for user, row in enumerate(histories.latest(torch.arange(LOG.users)).tolist()):
        own = (histories.items[histories.starts[user] : histories.starts[user + 1]] + 1).tolist()[-LENGTH:]
        assert row == [0] * (LENGTH - len(own)) + own
    assert histories.last_items().tolist() == [row[-1] - 1 for row in histories.latest(torch.arange(LOG.users)).tolist()]


def test_a_user_without_items_has_an_empty_window() -> None:
    empty = Histories(torch.zeros(3, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), 4)
    assert not empty.latest(torch.tensor([0, 1])).any()
    assert torch.isfinite(encoder()(View({"sequence": empty.latest(torch.tensor([0, 1]))})).rows).all()


@pytest.mark.parametrize("batch_size", [None, 16])
def test_the_source_keeps_its_contract(batch_size: int | None) -> None:
    check_source(source, batch_size=batch_size)


def test_batches_are_of_training_items_alone_and_clean_views_add_validation() -> None:
    log, parts = source(), source().parts
    train = set(zip(parts.train.user.tolist(), parts.train.item.tolist(), strict=True))
    for part in log.batches(Epoch(batch_size=16)):
        for user, row in zip(part.index.tolist(), part.data["sequence"].tolist(), strict=True):
            assert {(user, item - 1) for item in row if item} <= train
    users = torch.cat([view.data["sequence"] for view in log.clean() if "sequence" in view.data])
    before = torch.cat([view.data["sequence"] for view in log.ranked_on("validation").clean() if "sequence" in view.data])
    last = dict(zip(parts.validation.user.tolist(), parts.validation.item.tolist(), strict=True))
    assert [row[-1] - 1 for row in users.tolist()] == [last[user] for user in range(LOG.users)]
    assert torch.equal(before[:, 1:], users[:, :-1]) or torch.equal(before, log.training.latest(torch.arange(LOG.users)))


def test_an_outline_gives_the_same_histories() -> None:
    log = source()
    loaded = Catalogue.of(Outline("walks", log.shape, log.keeps())).histories
    assert loaded is not None
    assert loaded.length == LENGTH
    for name in ("starts", "items", "parts"):
        assert torch.equal(getattr(loaded, name), getattr(log.catalogue.histories, name))


def test_logs_without_sequences_are_refused() -> None:
    short = Interactions.from_ids([1, 1, 2, 2], [5, 6, 5, 7])
    with pytest.raises(UserError, match="no user of 'short' has 2 training items"):
        SequenceSource("short", split(short, "leave_one_out"), length=5)
    with pytest.raises(UserError, match="a sequence has at least 1 item, and length is 0"):
        source(0)


def test_no_state_follows_from_later_items() -> None:
    sequence = torch.randint(1, ITEMS + 1, (4, LENGTH))
    changed = sequence.clone()
    changed[:, 4] = changed[:, 4] % ITEMS + 1
    before, after = (encoder().eval()(View({"sequence": one})).tokens for one in (sequence, changed))
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=1e-6)
    assert not torch.allclose(before[:, 4:], after[:, 4:])
    both = [cloze().eval().states(one) for one in (sequence, changed)]
    assert not torch.allclose(both[0][:, :4], both[1][:, :4])


@pytest.mark.parametrize("make", [encoder, cloze])
def test_more_padding_changes_nothing(make: object) -> None:
    model = make().double().eval()  # type: ignore[operator]
    sequence = torch.tensor([[3, 1, 7], [0, 0, 2]])
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), sequence], 1)
    for ours, theirs in zip(
        model(View({"sequence": padded})).rows, (model(View({"sequence": one[None]})).rows[0] for one in padded), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    if model.causal:
        torch.testing.assert_close(model(View({"sequence": padded})).rows, model(View({"sequence": sequence})).rows)


def test_sequences_of_like_lengths_are_as_each_by_itself() -> None:
    torch.manual_seed(0)
    model = ItemTransformer(50, DIM, length=40, drop=0.0).double().eval()
    sequence = torch.randint(1, 51, (9, 40)) * (torch.arange(40) >= 40 - torch.tensor([1, 40, 8, 9, 16, 17, 3, 33, 0])[:, None])
    whole = model(View({"sequence": sequence}))
    for row, states in zip(sequence, whole.tokens, strict=True):
        torch.testing.assert_close(model(View({"sequence": row[None]})).tokens[0], states)
    assert not whole.tokens[~whole.valid].any()


@pytest.mark.parametrize("make", [encoder, cloze])
def test_encoders_keep_the_contract(make: object) -> None:
    check_encoder(make(), View({"sequence": torch.randint(1, ITEMS + 1, (5, LENGTH))}))  # type: ignore[operator]


def test_a_cloze_asks_behind_the_history() -> None:
    model = cloze().double().eval()
    asked = model(View({"sequence": torch.tensor([[9, 4, 5]])})).rows
    model.items, mask = ITEMS, ITEMS + 1
    torch.testing.assert_close(asked, model.states(torch.tensor([[4, 5, mask]]))[:, -1])
    torch.testing.assert_close(asked[:, -1], torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize("maker", [hide(), Augmented(), same_target()])
def test_views_keep_the_contract(maker: ViewMaker) -> None:
    check_view_maker(maker, batch(), sliced=False)
    whole = maker(batch(), Draws.seeded(3, total=12))
    part = Batch({"sequence": batch().data["sequence"][5:]}, 7, 5, 12, index=batch().index[5:])
    for ours, theirs in zip(whole.views, maker(part, Draws.seeded(3, start=5, rows=7, total=12)).views, strict=True):
        assert torch.equal(ours.data["sequence"][5:], theirs.data["sequence"])


def test_next_items_follow_each_item() -> None:
    view = NextItems()(Batch({"sequence": torch.tensor([[0, 0, 4, 2], [7, 8, 9, 1]])}, 2), Draws.seeded(0, total=2)).views[0]
    assert view.data["sequence"].tolist() == [[0, 0, 4], [7, 8, 9]]
    assert view.target.tolist() == [[0, 0, 2], [8, 9, 1]]


def test_a_cloze_hides_a_share_and_shows_what_was_there_a_tenth_of_the_time() -> None:
    sequence = torch.randint(1, ITEMS + 1, (4000, 11))
    sequence[:, :4] = 0
    view = Cloze(ITEMS, 0.3, 0.0)(Batch({"sequence": sequence}, 4000), Draws.seeded(0, total=4000)).views[0]
    hidden, items = view.mask.hidden, sequence[:, 1:]
    assert not hidden[:, :3].any()
    assert bool(hidden.any(1).all())
    assert float(hidden[:, 3:].float().mean()) == pytest.approx(0.3 + 0.7**7 / 7, abs=0.01)  # of none the least is hidden
    assert torch.equal(view.target, items * hidden)
    shares = [view.mask.token, hidden & ~view.mask.token & (view.data["sequence"] == items)]
    assert [float(share.sum() / hidden.sum()) for share in shares] == pytest.approx([0.8, 0.1 + 0.1 / ITEMS], abs=0.02)
    at_end = Cloze(ITEMS, 0.3, 1.0)(Batch({"sequence": sequence}, 4000), Draws.seeded(0, total=4000)).views[0].mask.hidden
    assert at_end.sum(1).tolist() == [1] * 4000
    assert bool(at_end[:, -1].all())


def left_padded(rows: int = 200, length: int = 9) -> Tensor:
    random = torch.Generator().manual_seed(0)
    counts = torch.randint(1, length + 1, (rows,), generator=random)
    places = torch.arange(length) >= length - counts[:, None]
    return (1 + torch.rand(rows, length, generator=random).argsort(1)) * places


def test_operations_keep_what_they_should() -> None:
    sequence, random = left_padded(), torch.Generator().manual_seed(1)
    place, noise = torch.rand(200, generator=random), torch.rand(200, 9, generator=random)
    count = lengths(sequence)
    shorter, moved, hidden = cropped(sequence, 0.6, place), reordered(sequence, 0.6, place, noise), masked(sequence, 0.3, noise)
    assert lengths(shorter).tolist() == [max(1, math.floor(0.6 * n + 1e-9)) for n in count.tolist()]
    for row, part, other in zip(sequence.tolist(), shorter.tolist(), moved.tolist(), strict=True):
        items, kept = [i for i in row if i], [i for i in part if i]
        assert any(items[start : start + len(kept)] == kept for start in range(len(items)))
        assert part[: len(part) - len(kept)] == [0] * (len(part) - len(kept))
        assert sorted(other) == sorted(row)
        differs = [k for k, (a, b) in enumerate(zip(row, other, strict=True)) if a != b]
        assert not differs or differs[-1] - differs[0] < max(1, math.floor(0.6 * len(items) + 1e-9))
    assert bool((moved != sequence).any())
    assert hidden.sum(1).tolist() == [0 if n == 1 else math.floor(0.3 * n + 1e-9) for n in count.tolist()]
    assert not hidden[sequence == 0].any()
    single = torch.tensor([[0, 0, 5]])
    assert torch.equal(cropped(single, 0.5, place[:1]), single)
    assert torch.equal(reordered(single, 0.5, place[:1], noise[:1, :3]), single)


def test_the_two_views_of_a_sequence_take_different_operations() -> None:
    sequence = torch.arange(1, 11).expand(300, 10)
    first, second = Augmented(crop=0.5, mask=0.5, reorder=1.0)(Batch({"sequence": sequence}, 300), Draws.seeded(0, total=300)).seen_whole

    def kind(view: View) -> Tensor:
        return torch.where(view.mask.hidden.any(1), 0, torch.where(lengths(view.data["sequence"]) < 9, 1, 2))

    assert not (kind(first) == kind(second)).any()
    assert kind(first).bincount().min() > 70
    alone = Augmented()(Batch({"sequence": torch.tensor([[0, 0, 4]])}, 1), Draws.seeded(0, total=1))
    assert [view.data["sequence"].tolist() for view in alone.views] == [[[0, 4]]] * 3
    assert not any(view.mask.hidden.any() for view in alone.seen_whole)
    [clean] = Augmented()(batch(), Draws.seeded(0, total=12)).role("clean")
    assert torch.equal(clean.data["sequence"], batch().data["sequence"][:, 1:])


def test_prefixes_of_the_same_target_are_other_prefixes_where_there_are_some() -> None:
    histories, maker = source().training, same_target()
    places = maker.by_target
    share = torch.rand(len(places), generator=torch.Generator().manual_seed(0)).double()
    others = maker.other(places, histories.items[places], share)
    assert torch.equal(histories.items[others], histories.items[places])
    alone = maker.ends[histories.items[places]] - maker.begins[histories.items[places]] == 1
    assert torch.equal(others == places, alone)
    for row, place in zip(maker.prefix(others).tolist(), others.tolist(), strict=True):
        begin = int(histories.starts[histories.owners[place]])
        assert place > begin
        assert [item for item in row if item] == (histories.items[begin:place] + 1).tolist()[-LENGTH:]
    assert set(histories.items[places].tolist()) <= set(histories.items.tolist())


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_next_item_is_a_plain_cross_entropy_over_items_alone() -> None:
    model = encoder().double()
    view = NextItems()(batch(), Draws.seeded(0, total=12)).views[0]
    step = Step(NextItems()(batch(), Draws.seeded(0, total=12)), batch(), Draws.seeded(0, total=12), 0, 1, model)
    states, losses = model(view).tokens, []
    for sample in range(12):
        for place in range(LENGTH):
            if target := int(view.target[sample, place]):
                scores = torch.stack([states[sample, place] @ model.table[item] for item in range(1, ITEMS + 1)])
                losses.append(-torch.log(scores.exp()[target - 1] / scores.exp().sum()))
    ours, plain = NextItem(DIM)(step)["next_item"], torch.stack(losses).mean()
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=0)
    grads = [torch.autograd.grad(loss, [model.table], retain_graph=True)[0] for loss in (ours, plain)]
    torch.testing.assert_close(*grads, rtol=1e-8, atol=1e-12)
    assert float(ours.detach()) == pytest.approx(math.log(ITEMS), abs=0.05)


def test_memory_is_bounded_and_the_loss_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder().double()
    step = Step(NextItems()(batch(), Draws.seeded(0, total=12)), batch(), Draws.seeded(0, total=12), 0, 1, model)
    found = []
    for size in (2**25, 64):
        monkeypatch.setattr("anyview.objectives.contrast.BLOCK", size)
        loss = NextItem(DIM)(step)["next_item"]
        found.append((loss, torch.autograd.grad(loss, [model.table], retain_graph=True)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-14)


def test_sampled_and_binary_losses_are_their_formulas() -> None:
    states, items, own, drawn = rows(5, 3), rows(9, 3, seed=1), torch.tensor([0, 8, 2, 2, 5]), torch.tensor([2, 7, 2, 1])
    for m, k in enumerate(own.tolist()):
        others = sum(torch.exp(states[m] @ items[d]) for d in drawn.tolist() if d != k) * 8 / 4
        chance = torch.exp(states[m] @ items[k]) / (torch.exp(states[m] @ items[k]) + others)
        torch.testing.assert_close(sampled_losses(states, items, own, drawn)[m], -chance.log(), rtol=1e-10, atol=0)
        pair = -torch.sigmoid(states[m] @ items[k]).log() - (1 - torch.sigmoid(states[m] @ items[(k + 1) % 9])).log()
        torch.testing.assert_close(binary_losses(states, items, own, (own + 1) % 9)[m], pair, rtol=1e-10, atol=0)


def test_contrast_of_views_is_the_papers_formula_both_ways_without_itself() -> None:
    a, b, groups = rows(5, 3), rows(5, 3, seed=1), torch.tensor([0, 1, 1, 2, 0])
    both = torch.cat([a, b])
    for same in (None, groups):
        losses = []
        for i in range(10):
            own = (i + 5) % 10
            keys = [k for k in range(10) if k == own or (k != i and (same is None or same[k % 5] != same[i % 5]))]
            scores = torch.stack([torch.exp(both[i] @ both[k] / 0.7) for k in keys])
            losses.append(-torch.log(scores[keys.index(own)] / scores.sum()))
        ours, plain = view_contrast(a, b, 0.7, same), torch.stack(losses).mean()
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=0)
        torch.testing.assert_close(torch.autograd.grad(ours, [a])[0], torch.autograd.grad(plain, [a])[0], rtol=1e-8, atol=1e-12)
    unit = [x / x.norm(dim=1, keepdim=True) for x in (a, b)]
    torch.testing.assert_close(view_contrast(*unit, 0.2), simclr_loss(a, b, 0.2))
    assert float(view_contrast(a[:1], b[:1]).detach()) == pytest.approx(0, abs=1e-12)


CASES = {
    "all": (NextItem, NextItems, encoder),
    "some": (partial(NextItem, over="some", negatives=7), NextItems, encoder),
    "one": (partial(NextItem, over="one"), NextItems, encoder),
    "cloze": (NextItem, hide, cloze),
    "contrast": (SequenceContrast, Augmented, encoder),
    "same target": (SequenceContrast, same_target, encoder),
}


@pytest.mark.parametrize("name", CASES)
def test_objectives_keep_the_contract_and_two_processes_are_one(name: str) -> None:
    objective, views, model = CASES[name]
    check_objective(objective, make_views=views, make_encoder=model, make_batch=batch)
    check_stage_rank_exact(partial(tiny_stage, objective, views, model), batch)


def test_what_cannot_be_is_refused() -> None:
    for act, sentence in [
        (lambda: Cloze(9, 0.0), "a share of items is hidden above 0"),
        (lambda: Augmented(crop=1.5), "the share of a sequence that crop is about"),
        (lambda: Augmented(operations=()), "views of a sequence need an operation"),
        (lambda: SequenceContrast(8, temperature=0), "a temperature above 0"),
        (lambda: NextItem(8, over="many"), "'many'"),
        (lambda: NextItem(8, negatives=0), "at least 1 other"),
        (lambda: encoder(drop=1.0), r"lies in \[0, 1\)"),
    ]:
        with pytest.raises(UserError, match=sentence):
            act()
