"""Weighted contrast: the one kernel under every contrastive loss, value and closed-form gradient. Imports torch only.

For anchors i, references j, similarities s_ij = <anchor_i, reference_j> / temperature, positive weights W_ij >= 0 with
row sums r_i, denominator weights D_ij >= 0 and sigma_ij = exp(s_ij) / sum_k D_ik exp(s_ik):

    L = - 1/n * sum_i sum_j W_ij (s_ij - log sum_k D_ik exp(s_ik)),      dL/ds_ij = 1/n * (r_i D_ij sigma_ij - W_ij)

D_ij is a weight of the reference, 1 as a rule, and 0 for pairs that are left out.

Nothing of rank 3 is built, and the matrices of anchors and references exist only for one block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Entries of one block of rows (32 MiB in float32): enough for full matrix-product speed, small beside activations.
BLOCK_ENTRIES = 2**23

# What some anchors (n) have to do with some neighbouring references (m): positive weights (n, m), and which of the
# pairs (n, m), none of positive weight, are left out of the denominator, if any.
PairBlock = tuple[Tensor, Tensor | None]

# Rows of anchors -> their pair blocks side by side from the first reference on; further references are no positives.
PairRows = Callable[[slice], Sequence[PairBlock]]


@dataclass(frozen=True)
class AnchorGroup:
    """Anchors of one kind, such as examples or prototypes.

    Args:
        size: How many they are.
        pair_rows: Maps a slice of them to their pair blocks. No gradient flows through it.
        own: Which reference the first anchor is itself, the second being the next one, and so on: an anchor is no
            reference of its own. None where anchors are not among the references.
    """

    size: int
    pair_rows: PairRows
    own: int | None


class _KnownGradient(torch.autograd.Function):
    """A value whose gradient has been computed together with it."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        references: Tensor,
        value: Tensor,
        anchor_gradient: Tensor,
        reference_gradient: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(anchor_gradient, reference_gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # With `create_graph=True` the saved gradients would count as constants: silently wrong.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError("contrastive losses have no second derivative; use them without create_graph=True")
        anchor_gradient, reference_gradient = ctx.saved_tensors
        return anchor_gradient * grad_output, reference_gradient * grad_output, None, None, None


@torch.no_grad()
def _value_and_gradients(
    anchors: Tensor,
    references: Tensor,
    groups: Sequence[AnchorGroup],
    temperature: float,
    denominator_weights: Tensor | None,
    normalizer: Tensor | None,
    drop_repulsion: bool,
    constant_references: int,
    block_rows: int,
    need_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    # So low that its exponential is 0, and finite, so that a weight of 0 times it is 0, also after log_weights.
    excluded = torch.finfo(anchors.dtype).min / 4
    log_weights = None if denominator_weights is None else denominator_weights.log().clamp(min=excluded)
    scaled = anchors / temperature
    total, with_positive = anchors.new_zeros(()), anchors.new_zeros(())
    anchor_gradient = torch.empty_like(anchors if need_gradient else anchors[:0])
    reference_gradient = torch.zeros_like(references[constant_references if need_gradient else len(references) :])

    first = 0
    for group in groups:
        for start in range(0, group.size, block_rows):
            stop = min(start + block_rows, group.size)
            rows = slice(first + start, first + stop)
            similarities = scaled[rows] @ references.T
            pair_blocks = group.pair_rows(slice(start, stop))
            if group.own is not None:
                similarities.diagonal(offset=group.own + start).fill_(excluded)
            row_sums, column = anchors.new_zeros(stop - start, 1), 0
            for weights, left_out in pair_blocks:
                row_sums += weights.sum(dim=1, keepdim=True)
                if left_out is not None:
                    similarities[:, column : column + weights.shape[1]].masked_fill_(left_out, excluded)
                column += weights.shape[1]
            with_positive += (row_sums > 0).sum()

            logits = similarities if log_weights is None else similarities + log_weights
            highest = logits.amax(dim=1, keepdim=True)
            gradient = (logits - highest).exp_()
            sums = gradient.sum(dim=1, keepdim=True)
            total += (row_sums * (highest + sums.log())).sum()
            gradient.mul_(row_sums / sums)  # the push r D sigma; what follows takes the pull from it

            column = 0
            for weights, _ in pair_blocks:
                columns = slice(column, column + weights.shape[1])
                pull = weights
                if drop_repulsion:
                    pull = torch.where(weights > 0, torch.maximum(weights, gradient[:, columns]), 0)
                total -= (pull * similarities[:, columns]).sum()
                gradient[:, columns].sub_(pull)
                column += weights.shape[1]
            if need_gradient:
                anchor_gradient[rows] = gradient @ references
                reference_gradient.addmm_(gradient[:, constant_references:].T, scaled[rows])
        first += group.size

    # The factor 1/n is the same for every anchor, so it is applied once at the end, when n is known.
    scale = 1 / (with_positive if normalizer is None else normalizer.to(total)).clamp(min=1)
    return total * scale, anchor_gradient.mul_(scale / temperature), reference_gradient.mul_(scale)


def weighted_contrast(
    anchors: Tensor,
    references: Tensor,
    groups: Sequence[AnchorGroup],
    *,
    temperature: float,
    denominator_weights: Tensor | None = None,
    normalizer: Tensor | None = None,
    drop_repulsion: bool = False,
    constant_references: int = 0,
    block_rows: int | None = None,
) -> Tensor:
    """The weighted contrast of anchors against references, with its gradient in closed form.

    Args:
        anchors: (N, d) L2-normalised vectors in float32 or float64.
        references: (M, d) L2-normalised vectors of the same dtype.
        groups: The kinds of anchors in the order of `anchors`, and which pairs are positives.
        temperature: Divisor of the cosine similarities.
        denominator_weights: (M,) weight of each reference in the denominator; 1 where not given, 0 leaves it out.
        normalizer: Scalar n that the sum over anchors is divided by; by default the number of anchors with a positive.
        drop_repulsion: Removes the part of the gradient that pushes a positive away (the loss `reg`): the gradient is
            then `min(r D sigma - W, 0)` wherever W > 0, and it is not the gradient of the value.
        constant_references: How many of the first references need no gradient.
        block_rows: Anchors per block; by default as many as fit into `BLOCK_ENTRIES` similarities.

    Returns:
        A scalar; 0 with zero gradients where no anchor has a positive.
    """
    if references.shape[0] == 0:
        return anchors.sum() * 0
    if block_rows is None:
        block_rows = max(1, BLOCK_ENTRIES // references.shape[0])
    need_gradient = torch.is_grad_enabled() and (anchors.requires_grad or references.requires_grad)
    value, anchor_gradient, reference_gradient = _value_and_gradients(
        anchors,
        references,
        groups,
        temperature,
        denominator_weights,
        normalizer,
        drop_repulsion,
        constant_references,
        block_rows,
        need_gradient,
    )
    if not need_gradient:
        return value
    moving = references[constant_references:]
    return _KnownGradient.apply(anchors, moving, value, anchor_gradient, reference_gradient)
