from __future__ import annotations

import pytest
import torch

from anyview.data.splits import Split, stratified_split


def parts(split: Split) -> list[set[int]]:
    return [set(rows.tolist()) for rows in (split.train, split.validation, split.test)]


@pytest.mark.parametrize("seed", range(3))
def test_every_row_is_in_exactly_one_part(seed: int) -> None:
    train, validation, test = parts(stratified_split(torch.arange(97) % 5, seed))
    assert train | validation | test == set(range(97))
    assert len(train) + len(validation) + len(test) == 97


def test_shares_hold_in_every_class() -> None:
    labels = torch.tensor([0] * 100 + [1] * 20)
    split = stratified_split(labels, 0, shares=(0.5, 0.25, 0.25))
    assert labels[split.train].bincount().tolist() == [50, 10]
    assert labels[split.validation].bincount().tolist() == [25, 5]
    assert labels[split.test].bincount().tolist() == [25, 5]
    assert split.name == "stratified 50/25/25, seed 0"


def test_seeds_differ_and_repeat() -> None:
    labels = torch.arange(100) % 2
    assert parts(stratified_split(labels, 0)) == parts(stratified_split(labels, 0)) != parts(stratified_split(labels, 1))


@pytest.mark.parametrize("seed", range(5))
def test_no_group_crosses(seed: int) -> None:
    groups = torch.arange(60) % 13
    split = stratified_split(torch.arange(60) % 2, seed, groups=groups)
    seen = [set(groups[rows].tolist()) for rows in (split.train, split.validation, split.test)]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 13
    assert sum(map(len, parts(split))) == 60
    assert split.name.startswith("by group")


def test_several_answers_are_split_at_random() -> None:
    split = stratified_split(torch.randint(2, (50, 3)), 0)
    assert [len(part) for part in parts(split)] == [30, 10, 10]
    assert split.name.startswith("random")


def test_masks_become_rows() -> None:
    split = Split.from_masks(*torch.eye(3, dtype=torch.bool))
    assert parts(split) == [{0}, {1}, {2}]
    assert split.name == "public"
