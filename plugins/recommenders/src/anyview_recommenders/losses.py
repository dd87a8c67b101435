"""What recommenders descend: ranking of a user's items over others, and contrast of nodes, users and items apart.

BPR: Rendle et al. 2009, arXiv 1205.2618. Contrast of the views of a node: Wu et al. 2021, arXiv 2010.10783 (SGL). Alignment and uniformity
of users and items: Wang et al. 2022, arXiv 2206.12811 (DirectAU).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from anyview.objectives.align_uniform import uniformity
from anyview.objectives.contrast import cross_entropy, in_blocks, log_sum_exp, part, products, unit
from anyview.objectives.gram import full


def bpr_loss(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Mean of softplus(u·n - u·p): how far users' products with their items are from being above those with other items.

    users, positives, negatives: (B, D), row b of each from one triple. All products equal gives log 2.

    >>> round(float(bpr_loss(torch.zeros(3, 2), torch.ones(3, 2), torch.ones(3, 2)).exp()), 4)
    2.0
    """
    users = full(users)
    return softplus((users * (full(negatives) - full(positives))).sum(1)).mean()


def squared_length(*rows: Tensor) -> Tensor:
    """Half of the squared lengths of a batch's rows, each tensor (B, D), over B: the L2 term, to be taken of ego embeddings alone.

    >>> float(squared_length(torch.ones(4, 2), 2 * torch.ones(4, 2)))
    5.0
    """
    return torch.stack([full(part).square().sum() for part in rows]).sum() / (2 * len(rows[0]))


def node_contrast(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """InfoNCE within a batch: cross-entropy of finding b's row m among all its rows by a's, from cosines; a mean over rows.

    a, b: (M, D), row m of both from the same node, each node once, or its own copies are negatives. A single node gives 0.

    >>> round(float(node_contrast(torch.ones(8, 4), torch.ones(8, 4), 0.2).exp()), 3)
    8.0
    """
    return cross_entropy(unit(a, 1 / temperature), unit(b), targets=[0]).mean()


def decoupled_contrast(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """InfoNCE whose denominator leaves a row's own pair out: log of the sum over n ≠ m of exp(a_m · b_n / τ), less a_m · b_m / τ; a mean.

    a, b: (M, D), row m of both from the same node, each node once; products are cosines. Two nodes are the least.

    >>> round(float(decoupled_contrast(torch.ones(8, 4), torch.ones(8, 4), 0.2).exp()), 3)
    7.0
    """
    queries, keys = unit(a, 1 / temperature), unit(b)
    return (log_sum_exp(queries, keys, apart=[0]) - (queries * keys).sum(1)).mean()


def log_partition(rows: Tensor, among: Tensor) -> Tensor:
    """Mean over rows (M, D) of the log of the sum over others (N, D) of exp of their products, which keeps rows short and apart.

    >>> round(float(log_partition(torch.zeros(2, 3), torch.ones(5, 3)).exp()), 3)
    5.0
    """
    return log_sum_exp(rows, among).mean()


def contrast_among(queries: Tensor, keys: Tensor, own: Tensor, temperature: float) -> Tensor:
    """InfoNCE against all nodes, or all prototypes: cross-entropy of finding key own[m] among all keys by query m, from cosines; a mean.

    queries: (M, D). keys: (K, D). own: (M,) int64, several queries may own one key. With many of both the M x K matrix is made in blocks.

    >>> round(float(contrast_among(torch.ones(3, 4), torch.ones(8, 4), torch.tensor([5, 5, 0]), 0.2).exp()), 3)
    8.0
    """
    return product_contrast(unit(queries, 1 / temperature), unit(keys), own)


def product_contrast(queries: Tensor, keys: Tensor, own: Tensor, bound: float = torch.inf) -> Tensor:
    """Mean over m of log(sum over k of exp(q_m · k)) - q_m · own key, by products as they are; arguments as in `contrast_among`.

    bound: the product with the own key is clamped to -bound .. bound, as LightGCL does.

    >>> round(float(product_contrast(torch.zeros(2, 3), torch.zeros(5, 3), torch.tensor([0, 1])).exp()), 3)
    5.0
    """
    return product_losses(queries, keys, own, bound).mean()


def product_losses(queries: Tensor, keys: Tensor, own: Tensor, bound: float = torch.inf) -> Tensor:
    """The summands of `product_contrast`, (M,)."""
    queries, keys = full(queries), full(keys)
    with_own = (queries * keys[own]).sum(1)
    return log_sum_exp(queries, keys) - with_own.clamp(-bound, bound)


def item_softmax(of_users: Tensor, of_items: Tensor, users: Tensor, items: Tensor) -> Tensor:
    """Cross-entropy of finding a pair's item among all items by its user, by products as they are; a mean over pairs.

    of_users, of_items: (U, D) and (I, D), the rows of all. users, items: (B,) int64, which of them a pair is. A user who is there several
    times has one row in the matrix of products.

    >>> round(float(item_softmax(torch.zeros(2, 3), torch.zeros(5, 3), torch.tensor([0, 0, 1]), torch.tensor([4, 2, 2])).exp()), 3)
    5.0
    """
    of_users, of_items = full(of_users), full(of_items)
    once, place = users.unique(return_inverse=True)
    partitions = log_sum_exp(of_users.index_select(0, once), of_items).index_select(0, place)
    return (partitions - (of_users.index_select(0, users) * of_items.index_select(0, items)).sum(1)).mean()


def told_apart(true: Tensor, false: Tensor, summary: Tensor) -> Tensor:
    """Binary cross-entropy of telling true rows from false ones by their products with summaries, of each the sum of both, (M,).

    true, false, summary: (M, D).

    >>> told_apart(torch.zeros(3, 2), torch.zeros(3, 2), torch.ones(3, 2)).exp().round(decimals=3).tolist()
    [4.0, 4.0, 4.0]
    """
    true, false = full(true), full(false)
    return softplus(-(true * summary).sum(1)) + softplus((false * summary).sum(1))


def spread(users: Tensor, items: Tensor) -> Tensor:
    """Mean uniformity of a batch's users (M, D) and of its items (K, D), each node once; a single node has no other and counts 0.

    >>> float(spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.ones(3, 2)))
    -4.0
    """
    parts = [uniformity(rows) if len(rows) > 1 else full(rows).sum() * 0 for rows in (users, items)]
    return torch.stack(parts).mean()


def in_batch_softmax(
    queries: Tensor, items: Tensor, temperature: float, *, log_chances: Tensor | None = None, excluded: Tensor | None = None
) -> Tensor:
    """Cross-entropy of finding a query's own item among the items of the whole batch, from cosines over the temperature; a mean.

    queries, items: (B, D), row b of both from one interaction. log_chances: (B,) log of how likely each item is to be in a batch, which is
    subtracted from its logits (log Q), or items that are often there would pay for it. excluded: (B, B) bool, items that are no negatives
    of a query; a query's own item always stays. With a large batch the B x B matrix is made in blocks.

    Yi, Yang, Hong, Cheng, Heldt, Kumthekar, Zhao, Wei, Chi. Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations.
    RecSys 2019.

    >>> round(float(in_batch_softmax(torch.ones(8, 4), torch.ones(8, 4), 0.07).exp()), 3)
    8.0
    """
    queries, items = unit(queries, 1 / temperature), unit(items)
    own_item = torch.arange(len(items), device=items.device)

    def losses(own: slice) -> Tensor:
        logits = products(part(queries, own), items)
        if log_chances is not None:
            logits = logits - log_chances
        if excluded is not None:
            others = excluded[own] & (own_item[own, None] != own_item)
            logits = logits.masked_fill(others, -torch.inf)
        return nn.functional.cross_entropy(logits, part(own_item, own), reduction="none")

    return in_blocks(losses, len(queries), len(items)).mean()


def view_contrast(a: Tensor, b: Tensor, temperature: float = 1.0, groups: Tensor | None = None) -> Tensor:
    """NT-Xent of two views by products as they are: cross-entropy of finding a row's other view among all others of both, a mean over 2M.

    a, b: (M, D), row m of both from the same sequence. groups: (M,) int64; rows of one group are no negatives of each other. A single
    sequence gives 0. With cosines in the place of products it is `simclr_loss`.

    >>> round(float(view_contrast(torch.ones(8, 4), torch.ones(8, 4)).exp()), 3)
    15.0
    """
    rows, count = torch.cat([full(a), full(b)]), len(a)
    if groups is None:
        return cross_entropy(rows / temperature, rows, targets=[count, -count], apart=[0]).mean()
    group, places = groups.repeat(2), torch.arange(2 * count, device=a.device)
    own = places.roll(count)

    def losses(part: slice) -> Tensor:
        hidden = (group[part, None] == group) & (places != own[part, None])
        return nn.functional.cross_entropy(
            (products(rows[part], rows) / temperature).masked_fill(hidden, -torch.inf), own[part], reduction="none"
        )

    return in_blocks(losses, 2 * count, 2 * count).mean()
