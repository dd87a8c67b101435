from __future__ import annotations

import pytest
import torch

from anyview.errors import UserError
from anyview.views.location import in_sample


def test_a_view_without_a_box_shows_the_whole() -> None:
    coordinates = torch.rand(3, 5, 2)
    assert torch.equal(in_sample(coordinates), coordinates)
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(3, 4)
    torch.testing.assert_close(in_sample(coordinates, whole), coordinates)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_places_are_start_and_share_of_the_extent_along_each_axis(axes: int) -> None:
    coordinates, box = torch.rand(4, 6, axes, dtype=torch.float64), torch.rand(4, 2 * axes, dtype=torch.float64) - 0.3
    found = in_sample(coordinates, box)
    for sample in range(4):
        for token in range(6):
            for axis in range(axes):
                expected = box[sample, axis] + box[sample, axes + axis] * coordinates[sample, token, axis]
                torch.testing.assert_close(found[sample, token, axis], expected)


def test_an_axis_that_is_turned_round_runs_from_its_far_end() -> None:
    turned = in_sample(torch.tensor([[[0.25], [0.75]]]), torch.tensor([[0.9, -0.4]]))
    torch.testing.assert_close(turned, torch.tensor([[[0.8], [0.6]]]))


def test_what_two_crops_both_show_is_in_one_place() -> None:
    """The right half of the left crop is the left half of the right one."""
    left, right = torch.tensor([[0.0, 0.5]]), torch.tensor([[0.25, 0.5]])
    torch.testing.assert_close(in_sample(torch.tensor([[[0.75]]]), left), in_sample(torch.tensor([[[0.25]]]), right))


def test_boxes_of_any_type_are_read_in_the_coordinates_type() -> None:
    assert in_sample(torch.rand(2, 3, 1), torch.rand(2, 2, dtype=torch.float64)).dtype == torch.float32


def test_other_axes_are_an_error() -> None:
    with pytest.raises(UserError, match="a box of 4 numbers for tokens with 1 coordinates"):
        in_sample(torch.rand(2, 3, 1), torch.rand(2, 4))
