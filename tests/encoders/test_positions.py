from __future__ import annotations

import math

import pytest
import torch

from anyview.encoders.positions import grid_coordinates, position_code
from anyview.errors import UserError


@pytest.mark.parametrize("grid", [(5,), (2, 3), (2, 1, 4)])
def test_coordinates_are_the_centres_of_cells_the_last_axis_fastest(grid: tuple[int, ...]) -> None:
    cells = [tuple((place + 0.5) / size for place, size in zip(index, grid, strict=True)) for index in torch.ones(grid).nonzero().tolist()]
    torch.testing.assert_close(grid_coordinates(grid), torch.tensor(cells))


def test_coordinates_are_as_fine_as_what_they_belong_to_and_never_coarser_than_float32() -> None:
    types = (torch.float64, torch.float32, torch.bfloat16, torch.int64)
    found = [grid_coordinates((3,), like=torch.zeros(1, dtype=dtype)).dtype for dtype in types]
    assert found == [torch.float64, torch.float32, torch.float32, torch.float32]


def test_code_is_sines_and_cosines_of_geometric_waves_for_each_axis() -> None:
    place, waves, turns = (0.3, 0.8), 3, 5.0
    expected: list[float] = []
    for x in place:
        frequencies = [math.pi * (2 * turns) ** (wave / (waves - 1)) for wave in range(waves)]
        expected += [math.sin(x * f) for f in frequencies] + [math.cos(x * f) for f in frequencies]
    code = position_code(torch.tensor([place], dtype=torch.float64), 14, turns)[0]
    torch.testing.assert_close(code, torch.tensor([*expected, 0.0, 0.0], dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_the_slowest_wave_is_half_a_turn_and_the_fastest_is_turns() -> None:
    code = position_code(torch.tensor([[1.0]], dtype=torch.float64), 8, turns=4.0)[0]
    assert code[4] == pytest.approx(math.cos(math.pi))
    assert code[7] == pytest.approx(math.cos(2 * math.pi * 4))


@pytest.mark.parametrize("grid", [(200,), (14, 14), (4, 5, 6)])
def test_places_have_codes_of_their_own(grid: tuple[int, ...]) -> None:
    code = position_code(grid_coordinates(grid), 48)
    distance = torch.cdist(code, code) + torch.eye(len(code))
    assert float(distance.min()) > 0.1


def test_a_code_is_of_a_place_and_not_of_its_neighbours() -> None:
    whole = grid_coordinates((4, 4))
    assert torch.equal(position_code(whole, 16)[5:7], position_code(whole[5:7], 16))
    assert position_code(whole.expand(3, -1, -1), 16).shape == (3, 16, 16)


def test_coarse_coordinates_give_a_code_in_float32() -> None:
    assert position_code(torch.rand(2, 1).bfloat16(), 4).dtype == torch.float32


def test_a_width_below_two_numbers_per_axis_is_refused() -> None:
    with pytest.raises(UserError, match="3 axes need a code of at least 6 numbers, and the width is 5"):
        position_code(torch.rand(2, 3), 5)
