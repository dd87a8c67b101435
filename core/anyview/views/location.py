"""Where the places of a view lie in the sample that it was cut out of."""

from __future__ import annotations

from torch import Tensor

from anyview.errors import UserError


def in_sample(coordinates: Tensor, box: Tensor | None = None) -> Tensor:
    """Places of a view as places of the whole sample, (B, N, C), in shares of the sample, 0 to 1 along each of C axes.

    coordinates: (B, N, C) places in the view, 0 to 1 (`Encoding.coordinates`). box: (B, 2C) starts along all axes, then extents, an extent
    below 0 where the axis is turned round (`View.params["box"]`); None where the view shows the whole sample. Raises UserError when the
    box has other axes than the coordinates.

    >>> turned = torch.tensor([[0.0, 1.0, 0.5, -0.5]])  # the upper right quarter, left and right swapped
    >>> in_sample(torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]), turned).tolist()
    [[[0.0, 1.0], [0.5, 0.5]]]
    """
    if box is None:
        return coordinates
    axes = coordinates.shape[2]
    if box.shape[1] != 2 * axes:
        found = f"a box of {box.shape[1]} numbers for tokens with {axes} coordinates"
        raise UserError(
            f"a view's box holds a start and an extent for each axis of its tokens, and there is {found}; give both as many axes"
        )
    start, extent = box.to(coordinates)[:, None].split(axes, dim=2)
    return start + extent * coordinates
