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

# Entries of one block of rows: on a CPU its few matrices stay in cache, an accelerator wants fewer and larger blocks.
BLOCK_ENTRIES = {"cpu": 2**19}
BLOCK_ENTRIES_ELSEWHERE = 2**23
# Matrix products of fewer rows than this are slow, however many references there are.
LEAST_ROWS = 64

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
        anchors: Tensor | None,
        references: Tensor,
        value: Tensor,
        scale: Tensor,
        anchor_gradient: Tensor | None,
        reference_gradient: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(scale, anchor_gradient, reference_gradient)
        return value * scale

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # With `create_graph=True` the saved gradients would count as constants: silently wrong.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError("contrastive losses have no second derivative; use them without create_graph=True")
        scale, anchor_gradient, reference_gradient = ctx.saved_tensors
        factor = scale * grad_output
        of_anchors = None if anchor_gradient is None else anchor_gradient * factor
        return of_anchors, reference_gradient * factor, None, None, None, None


@torch.no_grad()
def _value_and_gradients(
    anchors: Tensor,
    references: Tensor,
    groups: Sequence[AnchorGroup],
    temperature: float,
    denominator_weights: Tensor | None,
    drop_repulsion: bool,
    anchor_gradient: Tensor | None,
    reference_gradient: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The sum over anchors and the number of them with a positive; adds the gradients of the sum where given. That of
    the references is that of the last of them, as many as it has rows."""
    # So low that its exponential is 0, and finite, so that a weight of 0 times it is 0, also after log_weights.
    excluded = torch.finfo(anchors.dtype).min / 4
    log_weights = None if denominator_weights is None else denominator_weights.log().clamp(min=excluded)
    total, with_positive = anchors.new_zeros(()), anchors.new_zeros(())
    block_rows = rows_per_block(references.shape[0], references.device)
    nothing = anchors.new_zeros(())

    first = 0
    for group in groups:
        for start in range(0, group.size, block_rows):
            stop = min(start + block_rows, group.size)
            rows = slice(first + start, first + stop)
            similarities = torch.addmm(nothing, anchors[rows], references.T, beta=0, alpha=1 / temperature)
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

            column, parts = 0, []
            for weights, _ in pair_blocks:
                columns = slice(column, column + weights.shape[1])
                pull = weights
                if drop_repulsion:
                    pull = torch.where(weights > 0, torch.maximum(weights, gradient[:, columns]), 0)
                total -= (pull * similarities[:, columns]).sum()
                if torch.compiler.is_compiling():
                    # Inductor makes wrong sums of a matrix part of which was written to (pytorch issue 180164).
                    parts.append(gradient[:, columns] - pull)
                else:
                    gradient[:, columns].sub_(pull)
                column += weights.shape[1]
            if parts:
                gradient = torch.cat([*parts, gradient[:, column:]], dim=1)
            if anchor_gradient is not None:
                anchor_gradient[rows].addmm_(gradient, references, alpha=1 / temperature)
            if reference_gradient is not None:
                moving = gradient[:, references.shape[0] - reference_gradient.shape[0] :]
                reference_gradient.addmm_(moving.T, anchors[rows], alpha=1 / temperature)
        first += group.size
    return total, with_positive


def rows_per_block(references: int, device: torch.device) -> int:
    """How many anchors one block holds, so that memory is that of a constant, or of `LEAST_ROWS` times references."""
    return max(LEAST_ROWS, BLOCK_ENTRIES.get(device.type, BLOCK_ENTRIES_ELSEWHERE) // references)


def weighted_contrast(
    anchors: Tensor | None,
    references: Tensor,
    groups: Sequence[AnchorGroup],
    *,
    temperature: float,
    denominator_weights: Tensor | None = None,
    normalizer: Tensor | None = None,
    drop_repulsion: bool = False,
    constant_references: int = 0,
) -> Tensor:
    """The weighted contrast of anchors against references, with its gradient in closed form.

    Args:
        anchors: (N, d) L2-normalised vectors in float32 or float64; None where they are the first N references.
        references: (M, d) L2-normalised vectors of the same dtype.
        groups: The kinds of anchors in the order of `anchors`, and which pairs are positives.
        temperature: Divisor of the cosine similarities.
        denominator_weights: (M,) weight of each reference in the denominator; 1 where not given, 0 leaves it out.
        normalizer: Scalar n that the sum over anchors is divided by; by default the number of anchors with a positive.
        drop_repulsion: Removes the part of the gradient that pushes a positive away (the loss `reg`): the gradient is
            then `min(r D sigma - W, 0)` wherever W > 0, and it is not the gradient of the value.
        constant_references: How many of the first references need no gradient.

    Returns:
        A scalar; 0 with zero gradients where no anchor has a positive.
    """
    if references.shape[0] == 0:
        return references.sum() * 0 if anchors is None else anchors.sum() * 0
    moving = references[constant_references:] if constant_references else references
    anchor_gradient = reference_gradient = None
    if torch.is_grad_enabled() and (references.requires_grad or (anchors is not None and anchors.requires_grad)):
        reference_gradient = torch.zeros_like(moving)
        # Where anchors are references, the two parts of their gradient are added up in one place.
        anchor_gradient = reference_gradient if anchors is None else torch.zeros_like(anchors)
    total, with_positive = _value_and_gradients(
        references if anchors is None else anchors,
        references,
        groups,
        temperature,
        denominator_weights,
        drop_repulsion,
        anchor_gradient,
        reference_gradient,
    )
    # The factor 1/n is the same for every anchor, so it is applied once at the end, when n is known.
    scale = 1 / (with_positive if normalizer is None else normalizer.to(total)).clamp(min=1)
    if reference_gradient is None:
        return total * scale
    return _KnownGradient.apply(
        anchors, moving, total, scale, None if anchors is None else anchor_gradient, reference_gradient
    )
