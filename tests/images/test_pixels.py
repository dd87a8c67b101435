from __future__ import annotations

import torch

from anyview_images.pixels import as_float, as_stored, grey_of, per_sample


def test_stored_images_and_floats_are_the_same_images() -> None:
    stored = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(as_float(stored), stored.float() / 255)
    assert torch.equal(as_stored(as_float(stored), torch.uint8), stored)
    floats = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    assert as_float(floats) is floats
    assert as_stored(floats, torch.float32).dtype == torch.float32


def test_grey_values_are_those_of_bt601() -> None:
    colours = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)
    torch.testing.assert_close(grey_of(colours).flatten(), torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64))


def test_numbers_per_sample_follow_the_images() -> None:
    images = torch.rand(4, 3, 2, 2, dtype=torch.float64)
    values = per_sample(torch.arange(4).float()[:, None], images)
    assert (values.shape, values.dtype) == ((4, 1, 1, 1), torch.float64)
