from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from anyview.distributed import rank
from anyview.errors import UserError
from anyview.objectives import contrast
from anyview.objectives.queue import Queue
from anyview.testing import run_on_ranks


def numbered(first: int, count: int) -> Tensor:
    """Rows whose direction tells which they are."""
    angles = torch.arange(first, first + count, dtype=torch.float32) / 100
    return 5 * torch.stack([angles.cos(), angles.sin()], 1)


def numbers(queue: Queue) -> list[int]:
    return [round(float(angle) * 100) for angle in torch.atan2(queue.rows[:, 1], queue.rows[:, 0])]


def test_begins_with_random_unit_rows_none_of_them_real() -> None:
    queue = Queue(50, 8)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(50))
    assert float((queue.rows @ queue.rows.T).fill_diagonal_(0).abs().max()) < 0.99
    assert int(queue.filled) == 0
    assert not queue.full


def test_wraps_around_where_batches_do_not_divide_it() -> None:
    queue = Queue(5, 2)
    for first in (0, 3, 6):
        queue.push(numbered(first, 3))
    assert numbers(queue) == [5, 6, 7, 8, 4]
    assert (int(queue.position), int(queue.filled)) == (4, 5)
    assert queue.full


def test_fills_step_by_step() -> None:
    queue = Queue(5, 2)
    start = queue.rows.clone()
    queue.push(numbered(0, 3))
    assert int(queue.filled) == 3
    assert torch.equal(queue.rows[3:], start[3:])
    torch.testing.assert_close(queue.rows[:3], normalize(numbered(0, 3), dim=1))


@pytest.mark.parametrize("count", [5, 7, 12])
def test_of_a_batch_that_is_larger_the_last_rows_stay(count: int) -> None:
    queue = Queue(5, 2, notes=["sample"])
    queue.push(numbered(90, 3))
    queue.push(numbered(0, count), sample=torch.arange(count))
    assert sorted(numbers(queue)) == list(range(count - 5, count))
    assert queue.note("sample").tolist() == numbers(queue)
    queue.push(numbered(50, 1))  # takes the place of the oldest
    assert sorted(numbers(queue)) == [*range(count - 4, count), 50]


def test_no_rows_change_nothing() -> None:
    queue = Queue(3, 2)
    before = {name: value.clone() for name, value in queue.state_dict().items()}
    queue.push(torch.empty(0, 2))
    assert all(torch.equal(value, before[name]) for name, value in queue.state_dict().items())


def test_keeps_no_gradient_and_no_hold_on_what_was_pushed() -> None:
    rows = numbered(0, 2).requires_grad_()
    queue = Queue(4, 2)
    queue.push(rows)
    assert not queue.rows.requires_grad
    with torch.no_grad():
        rows.zero_()
    assert numbers(queue)[:2] == [0, 1]


def test_notes_stand_beside_their_rows_and_are_taken_away_with_them() -> None:
    queue = Queue(4, 2, notes=["sample", "label"])
    assert queue.note("label").tolist() == [-1] * 4
    queue.push(numbered(0, 3), sample=torch.tensor([7, 8, 9]), label=torch.tensor([1, 0, 1]))
    queue.push(numbered(3, 2), sample=torch.tensor([5, 6]))
    assert numbers(queue) == [4, 1, 2, 3]
    assert queue.note("sample").tolist() == [6, 8, 9, 5]
    assert queue.note("label").tolist() == [-1, 0, 1, -1]


def test_an_unknown_note_is_an_error() -> None:
    with pytest.raises(AttributeError, match="note_colour"):
        Queue(4, 2).push(numbered(0, 1), colour=torch.tensor([1]))


@pytest.mark.parametrize("block", [2**25, 30])
def test_nearest_is_the_largest_cosine(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "BLOCK", block)
    queue = Queue(20, 4)
    rows = 10 * torch.rand(9, 1) * torch.randn(9, 4)
    expected = [max(range(20), key=lambda k: float(torch.cosine_similarity(row, queue.rows[k], dim=0))) for row in rows]
    assert queue.nearest(rows.requires_grad_()).tolist() == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert queue.nearest(queue.rows[3:6]).tolist() == [3, 4, 5]


def test_goes_on_from_its_state() -> None:
    first, again = Queue(5, 2, notes=["sample"]), Queue(5, 2, notes=["sample"])
    first.push(numbered(0, 3), sample=torch.arange(3))
    again.load_state_dict(first.state_dict())
    for queue in (first, again):
        queue.push(numbered(3, 4), sample=torch.arange(3, 7))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    with pytest.raises(RuntimeError, match="size mismatch"):
        Queue(6, 2, notes=["sample"]).load_state_dict(first.state_dict())


def pushed_on_a_rank() -> tuple[list[int], list[int], int]:
    """In step s rank r pushes 2 + r rows, numbered from 10 s + 5 r on."""
    queue = Queue(7, 2, notes=["sample"])
    for step in range(2):
        own = torch.arange(2 + rank()) + 10 * step + 5 * rank()
        queue.push(numbered(int(own[0]), len(own)), sample=own)
    return numbers(queue), queue.note("sample").tolist(), int(queue.position)


def test_all_ranks_hold_the_rows_of_all_in_rank_order() -> None:
    """0 1 and 5 6 7 fill five places of seven; 10 11 fill it, and 15 16 17 begin anew."""
    for rows, samples, position in run_on_ranks(pushed_on_a_rank, 2):
        assert rows == samples == [15, 16, 17, 6, 7, 10, 11]
        assert position == 3


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="queue of 0 rows"):
        Queue(0, 4)
