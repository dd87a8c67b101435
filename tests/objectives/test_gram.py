from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyview.objectives.gram import off_diagonal

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


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_gradcheck(shape: tuple[int, int]) -> None:
    a, b = rows(shape, 0).requires_grad_(), rows(shape, 1).requires_grad_()
    assert torch.autograd.gradcheck(off_diagonal, (a, b))


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
