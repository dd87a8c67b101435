"""Squared entries of products AᵀB, from whichever side is smaller: ‖AᵀB‖² = ⟨AAᵀ, BBᵀ⟩."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Grams:
    """Gram matrices AAᵀ, (..., M, M), of tensors (..., M, D) that stay as they are; each is made once, however often it is asked for.

    >>> grams, a = Grams(), torch.randn(3, 50)
    >>> grams.of(a) is grams.of(a)
    True
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[Tensor, Tensor]] = {}

    def of(self, a: Tensor) -> Tensor:
        """AAᵀ, with gradient."""
        if id(a) not in self._made:
            self._made[id(a)] = (a, _Gram.apply(a))  # the tensor is kept, so that its id is not given to another
        return self._made[id(a)][1]


def off_diagonal(a: Tensor, b: Tensor, grams: Grams | None = None) -> tuple[Tensor, Tensor]:
    """Sum of the squares of AᵀB's entries off its diagonal, (...), and that diagonal (..., D); both of type `wide`, with gradient.

    a, b: (..., M, D), float32 or float64; one and the same tensor costs half. grams: where Gram matrices are kept that other terms ask for
    too. With M < D two M x M Gram matrices are made and no D x D one: M²D multiplications instead of MD², M² numbers instead of D².
    Matrices are multiplied in the tensors' own type, never lower. With M < D the squares of the diagonal are subtracted from those of all
    entries, and both are summed in float64, because a column that is much longer than the others makes them nearly equal; on a device
    without float64 a column 100 times longer than the rest costs the sum its fourth digit.

    >>> a, b = torch.randn(2, 3, 50).double()
    >>> product = a.T @ b
    >>> torch.allclose(off_diagonal(a, b)[0], product.square().sum() - product.diagonal().square().sum())
    True
    """
    if a.shape[-2] >= a.shape[-1]:
        return _OffDiagonal.apply(a, b)
    diagonal = column_products(a, b)
    return squared_norm(a, b, grams) - diagonal.square().sum(-1), diagonal


def squared_norm(a: Tensor, b: Tensor, grams: Grams | None = None) -> Tensor:
    """Sum of the squares of all of AᵀB's entries, (...), of type `wide`, with gradient; a, b, grams: as in `off_diagonal`.

    >>> float(squared_norm(torch.eye(2), torch.ones(2, 2)))
    4.0
    """
    if a.shape[-2] >= a.shape[-1]:
        off, diagonal = _OffDiagonal.apply(a, b)
        return off + diagonal.square().sum(-1)
    grams = grams or Grams()
    return (grams.of(a) * grams.of(b)).sum((-2, -1), dtype=wide(a.device))


def column_products(a: Tensor, b: Tensor) -> Tensor:
    """The diagonal of AᵀB alone, (..., D), of type `wide`, with gradient; a, b: (..., M, D).

    >>> column_products(torch.eye(2), torch.eye(2)).tolist()
    [1.0, 1.0]
    """
    return _ColumnProducts.apply(a, b)


def full(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is that: what losses are computed in, under autocast too."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def wide(device: torch.device) -> torch.dtype:
    """The type for sums whose difference matters: float64, or float32 on a device that has no float64.

    >>> wide(torch.device("cpu")), wide(torch.device("mps"))
    (torch.float64, torch.float32)
    """
    return torch.float32 if device.type == "mps" else torch.float64


EXACT = {"highest", "ieee", "none"}
"""What torch calls the precision of a float32 product that is one; "none" where nobody has set any."""
ONE_SWITCH = not hasattr(torch.backends.cuda.matmul, "fp32_precision")
"""Whether one word says it for all devices: torch before 2.9."""
UNCHANGED = nullcontext()


def products_are_full(device: torch.device) -> bool:
    """Whether float32 matrices are multiplied as float32 on a device as things stand: no autocast, and no precision set below that.

    >>> products_are_full(torch.device("cpu"))
    True
    """
    return not torch.is_autocast_enabled(device.type) and EXACT.issuperset(_matmul_precision(device))


def full_products(device: torch.device) -> AbstractContextManager[None]:
    """Within it a device multiplies float32 matrices as float32: no autocast, no TensorFloat32, no bfloat16; then all is as before.

    >>> with torch.autocast("cpu", dtype=torch.bfloat16), full_products(torch.device("cpu")):
    ...     (torch.eye(2) @ torch.eye(2)).dtype
    torch.float32
    """
    return UNCHANGED if products_are_full(device) else _made_full(device)


@contextmanager
def _made_full(device: torch.device) -> Iterator[None]:
    before = _matmul_precision(device)
    _set_matmul_precision(device, ["highest" if ONE_SWITCH else "ieee"] * len(before))
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        _set_matmul_precision(device, before)


def _matmul_precision(device: torch.device) -> list[str]:
    """How a device multiplies float32 matrices, in the words of torch's switches."""
    if ONE_SWITCH:
        return [torch.get_float32_matmul_precision()]
    return [matmul.fp32_precision for matmul in _switches(device)]


def _set_matmul_precision(device: torch.device, precision: Sequence[str]) -> None:
    if ONE_SWITCH:
        torch.set_float32_matmul_precision(precision[0])
        return
    for matmul, word in zip(_switches(device), precision, strict=True):
        matmul.fp32_precision = word


def _switches(device: torch.device) -> tuple[Any, ...]:
    """oneDNN's for a CPU, CUDA's for its own; both for any other device, whose libraries we do not know."""
    backends: Any = torch.backends
    cpu, cuda = backends.mkldnn.matmul, backends.cuda.matmul
    return {"cpu": (cpu,), "cuda": (cuda,)}.get(device.type, (cpu, cuda))


class _Gram(torch.autograd.Function):
    """AAᵀ; autograd's own backward multiplies twice, and in whatever precision is set by then."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        with full_products(a.device):
            return a @ a.mT

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        with full_products(a.device):
            return (gradients[0] + gradients[0].mT) @ a


class _OffDiagonal(torch.autograd.Function):
    """Both results from AᵀB itself. The diagonal is taken out of the matrix, so nothing has to be subtracted from the sum."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        ctx.same = a is b
        with full_products(a.device):
            product = a.mT @ b
            entries = product.diagonal(dim1=-2, dim2=-1)
            diagonal = entries.to(wide(a.device), copy=True)
            entries.zero_()
            columns = torch.linalg.vecdot(product, product, dim=-2)
        ctx.save_for_backward(a, b, product)
        return columns.sum(-1, dtype=wide(a.device)), diagonal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, off: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor | None]:
        a, b, product = ctx.saved_tensors
        sides = 2.0 if ctx.same else 1.0  # AᵀA is symmetric: what reaches A from either side is the same
        inner = product * (2.0 * sides * off).to(a.dtype)[..., None, None]
        inner.diagonal(dim1=-2, dim2=-1).copy_(sides * diagonal)
        with full_products(a.device):
            return (a @ inner, None) if ctx.same else (b @ inner.mT, a @ inner)


class _ColumnProducts(torch.autograd.Function):
    """The diagonal of AᵀB; autograd's own backward copies the float64 gradient to every row."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.same = a is b
        ctx.save_for_backward(a, b)
        return (a * b).sum(-2, dtype=wide(a.device))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        a, b = ctx.saved_tensors
        gradient = gradients[0].to(a.dtype)[..., None, :]
        return (2.0 * gradient * a, None) if ctx.same else (gradient * b, gradient * a)
