from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from anyview.objectives import gram
from anyview.objectives.gram import Grams, column_products, full_products, off_diagonal, squared_norm

SHAPES = {"fewer rows": (5, 9), "square": (7, 7), "more rows": (12, 4)}


def rows(shape: tuple[int, int], seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("case", ["random", "duplicates", "constant column"])
def test_either_side_gives_the_norm_and_its_gradients(shape: tuple[int, int], case: str) -> None:
    a, b = rows(shape, 0), rows(shape, 1)
    if case == "duplicates":
        a[1], b[1] = a[0], b[0]
    if case == "constant column":
        a[:, 2], b[:, 2] = 3.0, 0.0
    a.requires_grad_()
    b.requires_grad_()
    product = a.T @ b
    diagonal = torch.eye(shape[1], dtype=torch.bool)
    plain = product[~diagonal].square().sum()
    off, found = off_diagonal(a, b)
    torch.testing.assert_close(off, plain, rtol=1e-12, atol=0)
    torch.testing.assert_close(found, product[diagonal], rtol=1e-12, atol=1e-13)
    pull = rows(shape, 2)[0]
    ours = torch.autograd.grad(off + found @ pull, (a, b))
    theirs = torch.autograd.grad(plain + product.diagonal() @ pull, (a, b))
    for own, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", [off_diagonal, squared_norm, column_products])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (2, 3, 5), (2, 5, 3)])
def test_gradcheck(function: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
    a, b = rows(shape, 0).requires_grad_(), rows(shape, 1).requires_grad_()
    assert torch.autograd.gradcheck(function, (a, b))
    assert torch.autograd.gradcheck(lambda one: function(one, one), (a,))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_one_tensor_on_both_sides_is_no_special_case(shape: tuple[int, int]) -> None:
    a = rows(shape, 0)
    for function in (off_diagonal, squared_norm, column_products):
        same, apart = torch.utils._pytree.tree_leaves(function(a, a)), torch.utils._pytree.tree_leaves(function(a, a.clone()))
        for ours, theirs in zip(same, apart, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_norm_of_all_entries(shape: tuple[int, int]) -> None:
    a, b = rows(shape, 0), rows(shape, 1)
    torch.testing.assert_close(squared_norm(a, b), (a.T @ b).square().sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(column_products(a, b), (a.T @ b).diagonal(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(3, 5, 9), (3, 9, 5)])
def test_what_comes_before_the_rows_is_a_batch(shape: tuple[int, ...]) -> None:
    a, b = rows(shape, 0), rows(shape, 1)
    off, diagonal = off_diagonal(a, b)
    for position in range(len(a)):
        alone = off_diagonal(a[position], b[position])
        torch.testing.assert_close((off[position], diagonal[position]), alone, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(squared_norm(a, b)[position], squared_norm(a[position], b[position]), rtol=1e-12, atol=0)


def test_each_gram_matrix_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor] = []
    make = gram._Gram.apply
    monkeypatch.setattr(gram._Gram, "apply", lambda a: made.append(a) or make(a))
    a, b, c = rows((3, 8), 0), rows((3, 8), 1), rows((3, 8), 2)
    grams = Grams()
    off_diagonal(a, b, grams)
    squared_norm(c, a, grams)
    squared_norm(c, b, grams)
    assert [id(each) for each in made] == [id(a), id(b), id(c)]


@pytest.mark.parametrize("shape", [(8, 32), (32, 8)])
def test_half_precision_is_never_multiplied_in(shape: tuple[int, int]) -> None:
    a, b = rows(shape, 0).float(), rows(shape, 1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = off_diagonal(a, b)
    assert torch.equal(inside[0], off_diagonal(a, b)[0])
    assert torch.equal(inside[1], off_diagonal(a, b)[1])


def test_no_matrix_of_features_is_made() -> None:
    a = torch.randn(4, 200_000, requires_grad=True)  # its 200,000 x 200,000 matrix would take 160 GB
    off_diagonal(a, a)[0].backward()
    assert a.grad is not None
    assert bool(a.grad.isfinite().all())


@pytest.fixture
def low_precision() -> Iterator[None]:
    """Float32 products in bfloat16, on processors that have it, and in TensorFloat32 on CUDA."""
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(params=["cpu", "cuda", "mps"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Devices with a switch of their own, and one of which nothing is known."""
    return torch.device(request.param)


def gradients(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    off, diagonal = off_diagonal(a, b)
    return off, diagonal, *torch.autograd.grad(off + diagonal.sum(), (a, b))


@pytest.mark.parametrize("shape", [(64, 256), (256, 64)])
def test_low_matmul_precision_reaches_neither_forward_nor_backward(shape: tuple[int, int], low_precision: None) -> None:
    a, b = rows(shape, 0).float(), rows(shape, 1).float()
    inside = gradients(a, b)
    torch.set_float32_matmul_precision("highest")
    for ours, theirs in zip(inside, gradients(a, b), strict=True):
        assert torch.equal(ours, theirs)


def test_matmul_precision_is_put_back(device: torch.device, low_precision: None) -> None:
    def switches() -> list[str]:
        return gram._matmul_precision(device)

    before = switches()
    assert before[0] not in gram.EXACT
    with full_products(device):
        assert set(switches()) <= gram.EXACT
    assert switches() == before
    with pytest.raises(ZeroDivisionError), full_products(device):
        raise ZeroDivisionError
    assert switches() == before
    assert torch.get_float32_matmul_precision() == "medium"


def test_one_switch_for_all_backends_is_turned_too(monkeypatch: pytest.MonkeyPatch, low_precision: None) -> None:
    """As in torch before 2.9."""
    monkeypatch.setattr(gram, "ONE_SWITCH", True)
    with full_products(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize("shape", [(16, 64), (64, 16)])
def test_without_float64_sums_are_taken_in_float32(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on MPS, whose tensors cannot be float64 even in passing."""
    a, b = rows(shape, 0).float(), rows(shape, 1).float()
    exact = gradients(a.double(), b.double())
    monkeypatch.setattr(gram, "wide", lambda _: torch.float32)
    low = gradients(a, b)
    for ours, theirs in zip(low, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4 * float(theirs.detach().abs().max()))
    assert squared_norm(a, b).dtype == column_products(a, b).dtype == torch.float32
