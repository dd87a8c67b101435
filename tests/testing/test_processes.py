from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from anyview.distributed import rank, ranks
from anyview.testing import run_on_ranks


def who(offset: int) -> tuple[int, int, int]:
    return rank() + offset, ranks(), os.getpid()


def double(x: Tensor) -> Tensor:
    return 2 * x


def fail_on_second() -> int:
    if rank() == 1:
        raise ZeroDivisionError("on purpose")
    return 0


def leave() -> None:
    os._exit(3)


def test_results_come_in_rank_order_from_processes_that_stay() -> None:
    first, again = run_on_ranks(who, 2, 5), run_on_ranks(who, 2, 5)
    assert [result[:2] for result in first] == [(5, 2), (6, 2)]
    assert first == again
    assert os.getpid() not in {process for _, _, process in first}


def test_tensors_travel() -> None:
    for result in run_on_ranks(double, 2, torch.ones(2)):
        assert result.tolist() == [2.0, 2.0]


def test_a_failure_shows_the_rank_s_traceback_and_the_next_call_works() -> None:
    with pytest.raises(RuntimeError, match=r"rank 1 of 2 failed:[\s\S]*ZeroDivisionError: on purpose"):
        run_on_ranks(fail_on_second, 2)
    assert [result[0] for result in run_on_ranks(who, 2, 0)] == [0, 1]


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(RuntimeError, match="ended before it answered"):
        run_on_ranks(leave, 2)
