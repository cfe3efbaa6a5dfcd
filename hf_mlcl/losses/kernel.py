"""Weighted contrast: the one kernel under every contrastive loss, value and closed-form gradient. Imports torch only.

For anchors i, references j, similarities s_ij = <anchor_i, reference_j> / temperature, positive weights W_ij >= 0 with
row sums r_i, denominator weights D_ij >= 0 and sigma_ij = exp(s_ij) / sum_k D_ik exp(s_ik):

    L = - 1/n * sum_i sum_j W_ij (s_ij - log sum_k D_ik exp(s_ik)),      dL/ds_ij = 1/n * (r_i D_ij sigma_ij - W_ij)

D_ij is a weight of the reference, 1 as a rule, and 0 for pairs that are left out.

Nothing of rank 3 is built, and the M x M matrices exist only for one block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Entries of one block of rows (32 MiB in float32): enough for full matrix-product speed, small beside activations.
BLOCK_ENTRIES = 2**23

# Rows of anchors -> their positive weights (n, M), and which pairs (n, M) are left out of the denominator, if any.
PairRows = Callable[[slice], tuple[Tensor, Tensor | None]]


class _WeightedContrast(torch.autograd.Function):
    """Computes the gradient together with the value, while each block of similarities is at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        references: Tensor,
        pair_rows: PairRows,
        temperature: float,
        denominator_weights: Tensor | None,
        normalizer: Tensor | None,
        exclude_self: bool,
        drop_repulsion: bool,
        block_rows: int,
    ) -> Tensor:
        need_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = anchors.new_zeros(())
        with_positive = anchors.new_zeros(())
        anchor_gradient = torch.zeros_like(anchors if need_gradient else anchors[:0])
        reference_gradient = torch.zeros_like(references if need_gradient else references[:0])
        log_denominator = None if denominator_weights is None else denominator_weights.log()

        for start in range(0, anchors.shape[0], block_rows):
            rows = slice(start, min(start + block_rows, anchors.shape[0]))
            similarities = anchors[rows] @ references.T / temperature
            weights, left_out = pair_rows(rows)
            row_sums = weights.sum(dim=1, keepdim=True)
            has_positive = row_sums > 0

            logits = similarities.clone() if log_denominator is None else similarities + log_denominator
            if exclude_self:
                logits.diagonal(offset=start).fill_(-torch.inf)
            if left_out is not None:
                logits.masked_fill_(left_out, -torch.inf)
            log_normalizer = torch.logsumexp(logits, dim=1, keepdim=True)
            # A row without any reference has an infinite normaliser; without positives it must count as exactly 0.
            log_normalizer = torch.where(has_positive, log_normalizer, 0)
            total += (row_sums * log_normalizer).sum() - (weights * similarities).sum()
            with_positive += has_positive.sum()

            if not (need_gradient or drop_repulsion):
                continue
            logits.sub_(log_normalizer).exp_()
            gradient = torch.where(has_positive, logits, 0).mul_(row_sums).sub_(weights)
            if drop_repulsion:
                repulsion = torch.where(weights > 0, gradient.clamp(min=0), 0)
                total -= (repulsion * similarities).sum()
                gradient -= repulsion
            if need_gradient:
                anchor_gradient[rows] = gradient @ references / temperature
                reference_gradient.addmm_(gradient.T, anchors[rows], alpha=1 / temperature)

        # The factor 1/n is the same for every anchor, so it is applied once at the end, when n is known.
        scale = 1 / (with_positive if normalizer is None else normalizer.to(total)).clamp(min=1)
        if need_gradient:
            ctx.save_for_backward(anchor_gradient.mul_(scale), reference_gradient.mul_(scale))
        return total * scale

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # With `create_graph=True` the saved gradients would count as constants: silently wrong.
        if torch.is_grad_enabled():
            raise RuntimeError("contrastive losses have no second derivative; use them without create_graph=True")
        anchor_gradient, reference_gradient = ctx.saved_tensors
        return (anchor_gradient * grad_output, reference_gradient * grad_output, *[None] * 7)


def weighted_contrast(
    anchors: Tensor,
    references: Tensor,
    pair_rows: PairRows,
    *,
    temperature: float,
    denominator_weights: Tensor | None = None,
    normalizer: Tensor | None = None,
    exclude_self: bool,
    drop_repulsion: bool = False,
    block_rows: int | None = None,
) -> Tensor:
    """The weighted contrast of anchors against references, with its gradient in closed form.

    Args:
        anchors: (N, d) L2-normalised vectors in float32 or float64.
        references: (M, d) L2-normalised vectors of the same dtype.
        pair_rows: Maps a slice of anchors to their positive weights (n, M), non-negative and of the same dtype, and to
            a bool mask (n, M) of the pairs left out of the denominator, which must have no positive weight, or None.
            It must not depend on the vectors: no gradient flows through it.
        temperature: Divisor of the cosine similarities.
        denominator_weights: (M,) weight of each reference in the denominator; 1 where not given, 0 leaves it out.
        normalizer: Scalar n that the sum over anchors is divided by; by default the number of anchors with a positive.
        exclude_self: Whether anchor i is reference i, which then is no reference of it.
        drop_repulsion: Removes the part of the gradient that pushes a positive away (the loss `reg`): the gradient is
            then `min(r D sigma - W, 0)` wherever W > 0, and it is not the gradient of the value.
        block_rows: Anchors per block; by default as many as fit into `BLOCK_ENTRIES` similarities.

    Returns:
        A scalar; 0 with zero gradients where no anchor has a positive.
    """
    if block_rows is None:
        block_rows = max(1, BLOCK_ENTRIES // max(1, references.shape[0]))
    return _WeightedContrast.apply(
        anchors,
        references,
        pair_rows,
        temperature,
        denominator_weights,
        normalizer,
        exclude_self,
        drop_repulsion,
        block_rows,
    )
