from __future__ import annotations

import numpy as np
import pytest
import torch

from anyview.data.source import Batch, Epoch, Outline, fingerprint
from anyview.errors import UserError


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [7, 12, 13])
def test_ranks_share_a_batch_in_order_and_evenly(ranks: int, rows: int) -> None:
    parts = [Epoch(rank=rank, ranks=ranks).own(rows) for rank in range(ranks)]
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(rows))
    sizes = {part.stop - part.start for part in parts}
    assert max(sizes) - min(sizes) <= 1


def test_a_batch_counts_as_whole_unless_it_says_otherwise() -> None:
    assert Batch(None, 5).total == 5
    assert Batch(None, 5, start=5, total=10).total == 10


def test_every_tensor_of_a_batch_moves() -> None:
    extra = Batch(torch.zeros(1), 1)
    batch = Batch({"x": torch.zeros(2)}, 2, index=torch.arange(2), labels=None, groups={"g": torch.arange(2)}, extras={"pool": extra})
    moved = batch.to("meta")
    assert moved.data["x"].is_meta
    assert moved.index.is_meta
    assert moved.groups["g"].is_meta
    assert moved.extras["pool"].data.is_meta
    assert not batch.data["x"].is_meta


def test_fingerprints_see_values_shapes_types_and_order() -> None:
    a = np.arange(6)
    different = [a, a.reshape(2, 3), a.astype(np.float32), a[::-1], np.append(a, 6)]
    assert len({fingerprint(array) for array in different}) == len(different)
    assert fingerprint(a, None) != fingerprint(a)
    assert fingerprint(torch.arange(6)) == fingerprint(a)


def test_an_outline_knows_its_shape_and_nothing_else() -> None:
    outline = Outline("cora", {"features": 1433})
    assert outline.shape == {"features": 1433}
    for ask in (lambda: len(outline), outline.features, outline.fingerprint, outline.clean, lambda: outline.steps(None)):
        with pytest.raises(UserError, match="without its data 'cora'"):
            ask()
