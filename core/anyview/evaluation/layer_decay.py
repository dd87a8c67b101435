"""Smaller learning rates for earlier layers.

Clark, Luong, Le, Manning. ELECTRA. 2020, arXiv 2003.10555; for vision transformers Bao, Dong, Piao, Wei. BEiT. 2021, arXiv 2106.08254.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from anyview.errors import UserError


def blocks(module: nn.Module) -> list[nn.Module]:
    """A network's blocks in order: the entries of its outermost lists, or sequences, of two or more modules of one class.

    >>> blocks(nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]), nn.ReLU()))
    [Linear(in_features=2, out_features=2, bias=True), Linear(in_features=2, out_features=2, bias=True)]
    """
    return list(_found(module))


def _found(module: nn.Module) -> Iterator[nn.Module]:
    children = list(module.children())
    if isinstance(module, nn.ModuleList | nn.Sequential) and len(children) > 1 and len({type(child) for child in children}) == 1:
        yield from children
        return
    for child in children:
        yield from _found(child)


def depths(encoder: nn.Module) -> dict[str, int]:
    """How many layers follow each parameter, by name: 0 for what comes after the last block, most for what comes before the first.

    Parameters outside the blocks are before or after them by the order in which the encoder registers them. Raises UserError for an
    encoder without blocks.
    """
    found = blocks(encoder)
    if not found:
        raise UserError(f"layer_decay makes earlier blocks slower, and {type(encoder).__name__} has no blocks; leave it at 1")
    block_of = {id(parameter): number for number, block in enumerate(found) for parameter in block.parameters()}
    above, begun = {}, False
    for name, parameter in encoder.named_parameters():
        number = block_of.get(id(parameter))
        begun = begun or number is not None
        above[name] = len(found) - number if number is not None else 0 if begun else len(found) + 1
    return above
