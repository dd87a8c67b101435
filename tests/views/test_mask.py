from __future__ import annotations

import pytest
import torch

from anyview.errors import UserError
from anyview.testing import check_view_maker, tiny_batch
from anyview.views.draws import Draws
from anyview.views.mask import MaskColumns, Masked, MaskRows, MaskTokens, hide_rows, hide_tokens

MAKERS = [MaskTokens, MaskColumns, MaskRows]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("tokens", [False, True])
def test_masks_keep_the_contract(maker: type[Masked], tokens: bool) -> None:
    check_view_maker(maker(0.4), tiny_batch(tokens=tokens))


@pytest.mark.parametrize("maker", MAKERS)
def test_hidden_places_are_zero_and_the_target_is_whole(maker: type[Masked]) -> None:
    batch = tiny_batch()
    view = maker(0.5)(batch, Draws.seeded(0, total=12)).views[0]
    hidden = view.mask.hidden.view(12, -1).expand(12, 12)
    assert torch.equal(view.data, batch.data * ~hidden)
    assert torch.equal(view.target, batch.data)


@pytest.mark.parametrize(("rate", "hidden"), [(0.0, 0), (0.3, 3), (0.75, 8), (1.0, 10)])
def test_every_sample_hides_the_same_number(rate: float, hidden: int) -> None:
    assert hide_tokens(Draws.seeded(0, total=50), 10, rate).sum(1).unique().tolist() == [hidden]


def test_all_tokens_are_hidden_equally_often() -> None:
    share = hide_tokens(Draws.seeded(0, total=20_000), 5, 0.4).float().mean(0)
    torch.testing.assert_close(share, torch.full((5,), 0.4), atol=0.02, rtol=0)


def test_columns_are_the_same_in_every_row_and_tokens_are_not() -> None:
    draws = {maker: Draws.seeded(0, total=12) for maker in (MaskColumns, MaskTokens)}
    columns, tokens = (maker(0.5)(tiny_batch(), drawn).views[0].mask.hidden for maker, drawn in draws.items())
    assert bool((columns == columns[0]).all())
    assert not bool((tokens == tokens[0]).all())


def test_rows_hidden_on_two_ranks_are_an_exact_share_of_the_global_batch() -> None:
    parts = [hide_rows(Draws.seeded(0, total=10, start=start, rows=5), 0.3) for start in (0, 5)]
    assert int(torch.cat(parts).sum()) == 3
    assert torch.equal(torch.cat(parts), hide_rows(Draws.seeded(0, total=10), 0.3))


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_rate_outside_its_range_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        MaskTokens(rate)
