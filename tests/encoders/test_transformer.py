from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu

from anyview.encoders.positions import grid_coordinates, position_code
from anyview.encoders.transformer import Attention, Block, Blocks, SequenceTransformer, TokenEncoding
from anyview.errors import UserError
from anyview.testing import check_encoder
from anyview.views.view import Mask, View

POOLS = ["mean", "class"]


def small(**options: Any) -> SequenceTransformer:
    return SequenceTransformer(5, **{"dim": 8, "depth": 2, "heads": 2, **options})


def half(drop: bool = False, rows: int = 3, tokens: int = 6) -> Mask:
    """Half of the tokens, others in every sample."""
    return Mask(torch.rand(rows, tokens).argsort(1) < tokens // 2, drop=drop)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("masked", "mask"), [(False, None), (True, None), (True, half()), (True, half(drop=True)), (False, half(drop=True))]
)
def test_transformer_keeps_the_contract(pool: str, masked: bool, mask: Mask | None) -> None:
    check_encoder(small(pool=pool, masked=masked), View(torch.randn(3, 6, 5), mask=mask))


def plain_attention(attention: Attention, tokens: Tensor) -> Tensor:
    """Head by head, query by query."""
    samples, number, dim = tokens.shape
    query, key, value = (tokens @ attention.qkv.weight.T + attention.qkv.bias).split(dim, dim=2)
    size = dim // attention.heads
    mixed = torch.zeros_like(tokens)
    for sample in range(samples):
        for head in range(attention.heads):
            own = slice(head * size, (head + 1) * size)
            for place in range(number):
                scores = torch.stack([query[sample, place, own] @ key[sample, other, own] for other in range(number)])
                weights = (scores / math.sqrt(size)).softmax(0)
                mixed[sample, place, own] = sum(weights[other] * value[sample, other, own] for other in range(number))
    return mixed @ attention.out.weight.T + attention.out.bias


def test_attention_is_the_paper_s_formula() -> None:
    attention, tokens = Attention(6, 3).double(), torch.randn(2, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(attention(tokens), plain_attention(attention, tokens), rtol=1e-10, atol=1e-12)


def test_a_block_norms_before_each_part_and_adds_it() -> None:
    block, x = Block(6, 2).double(), torch.randn(2, 4, 6, dtype=torch.float64)

    def norm(tokens: Tensor) -> Tensor:
        centred = tokens - tokens.mean(2, keepdim=True)
        return centred / (centred.square().mean(2, keepdim=True) + 1e-6).sqrt()

    middle = x + plain_attention(block.attention, norm(x))
    inner = norm(middle) @ block.feed_forward.inner.weight.T + block.feed_forward.inner.bias
    added = gelu(inner) @ block.feed_forward.out.weight.T + block.feed_forward.out.bias
    after, branch = block(x)
    torch.testing.assert_close(branch, added, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(after, middle + added, rtol=1e-10, atol=1e-12)


def test_blocks_follow_one_another_and_start_without_bias() -> None:
    blocks, x = Blocks(6, 3, 2, ratio=2.0), torch.randn(2, 4, 6)
    tokens = x
    for block in blocks.blocks:
        tokens = block(tokens)[0]
    assert torch.equal(blocks(x), blocks.norm(tokens))
    assert blocks.blocks[0].feed_forward.inner.out_features == 12
    assert all(not block.attention.qkv.bias.any() for block in blocks.blocks)


@pytest.mark.parametrize("pool", POOLS)
def test_layers_are_the_blocks_outputs_at_the_tokens_that_are_returned(pool: str) -> None:
    encoder = small(pool=pool, depth=3)
    encoding = encoder(View(torch.randn(3, 6, 5), mask=half(drop=True)))
    assert [layer.shape for layer in encoding.layers] == [(3, 3, 8)] * 3
    assert torch.equal(encoder.blocks.norm(encoding.layers[-1]), encoding.tokens)
    assert [branch.shape for branch in encoding.branches] == [(3, 3, 8)] * 3


def test_a_branch_is_what_was_added_before_the_last_residual() -> None:
    encoder = small(depth=1)
    data = torch.randn(3, 6, 5)
    encoding = encoder(View(data))
    start = encoder.linear(data) + position_code(grid_coordinates((6,)), 8)
    block = encoder.blocks.blocks[0]
    middle = start + block.attention(block.attention_norm(start))
    torch.testing.assert_close(encoding.layers[0] - encoding.branches[0], middle)


def test_rows_are_the_mean_of_tokens_or_the_class_token() -> None:
    view = View(torch.randn(3, 6, 5))
    mean, own = small()(view), small(pool="class")(view)
    torch.testing.assert_close(mean.rows, mean.tokens.mean(1))
    assert own.tokens.shape == mean.tokens.shape
    assert not torch.allclose(own.rows, own.tokens.mean(1))


@pytest.mark.parametrize("pool", POOLS)
def test_dropped_tokens_leave_what_a_shorter_sequence_at_the_kept_places_gives(pool: str) -> None:
    encoder = small(pool=pool).eval()
    data, mask = torch.randn(3, 6, 5), half(drop=True)
    encoding = encoder(View(data, mask=mask))
    for sample in range(3):
        kept = [place for place in range(6) if not mask.hidden[sample, place]]
        tokens = encoder.linear(data[sample, kept])[None] + position_code(grid_coordinates((6,))[kept], 8)
        if pool == "class":
            tokens = torch.cat([encoder.class_token[None, None], tokens], 1)
        expected = encoder.blocks(tokens)[0]
        torch.testing.assert_close(encoding.tokens[sample], expected[1:] if pool == "class" else expected)
        torch.testing.assert_close(encoding.rows[sample], expected[0] if pool == "class" else expected.mean(0))
        assert torch.equal(encoding.coordinates[sample], grid_coordinates((6,))[kept])


@pytest.mark.parametrize("drop", [False, True])
def test_hidden_data_does_not_reach_the_encoding(drop: bool) -> None:
    encoder, data, mask = small(masked=True).eval(), torch.randn(3, 6, 5), half(drop)
    other = torch.where(mask.hidden[..., None], torch.randn(3, 6, 5), data)
    assert torch.equal(encoder(View(data, mask=mask)).tokens, encoder(View(other, mask=mask)).tokens)
    assert not torch.equal(encoder(View(data)).tokens, encoder(View(other)).tokens)


def test_the_token_shows_where_the_mask_says_so() -> None:
    encoder, data = small(masked=True).eval(), torch.randn(1, 3, 5)
    mask = Mask(torch.tensor([[True, True, False]]), token=torch.tensor([[True, False, False]]))
    tokens = encoder.linear(data)
    tokens[0, 0] = encoder.mask_token
    expected = encoder.blocks(tokens + position_code(grid_coordinates((3,)), 8))
    torch.testing.assert_close(encoder(View(data, mask=mask)).tokens, expected)


def test_places_are_those_of_all_tokens() -> None:
    encoding = small()(View(torch.randn(3, 6, 5), mask=half(drop=True)))
    assert isinstance(encoding, TokenEncoding)
    assert encoding.coordinates.shape == (3, 3, 1)
    assert torch.equal(encoding.places, grid_coordinates((6,)).expand(3, -1, -1))


def test_order_matters_and_length_is_free() -> None:
    encoder, data = small().eval(), torch.randn(3, 6, 5)
    assert not torch.allclose(encoder(View(data)).rows, encoder(View(data.flip(1))).rows, atol=1e-4)
    assert encoder(View(torch.randn(2, 9, 5))).tokens.shape == (2, 9, 8)


def test_runs_under_autocast_and_in_double() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoding = small(masked=True, pool="class")(View(torch.randn(3, 6, 5), mask=half()))
    assert bool(encoding.rows.isfinite().all())
    assert small(masked=True).double()(View(torch.randn(3, 6, 5).double(), mask=half())).rows.dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "data", "mask", "phrase"),
    [
        ({"heads": 3}, (3, 6, 5), None, "3 attention heads cannot share a width of 8"),
        ({"depth": 0}, (3, 6, 5), None, "at least one block"),
        ({}, (3, 6, 4), None, r"sequences \(B, N, 5\), and the view's data is \(3, 6, 4\)"),
        ({}, (3, 5), None, "sequences"),
        ({}, (3, 6, 5), half(), "build it with masked=True"),
        ({"masked": True}, (3, 6, 5), half(tokens=4), r"mask is \(3, 4\), and the encoder makes \(3, 6\)"),
        ({"masked": True}, (3, 6, 5), Mask(torch.ones(3, 6, dtype=torch.bool), drop=True), "hides every token"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], data: tuple[int, ...], mask: Mask | None, phrase: str) -> None:
    with pytest.raises(UserError, match=phrase):
        small(**options)(View(torch.randn(data), mask=mask))
